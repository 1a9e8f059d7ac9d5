"""The pages of a person's own account: signing in, passwords, joining, tokens."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from annotator.accounts import selectors, services, throttling
from annotator.accounts.models import Role, User

PERSONAL_SCOPES = [
    ("read", "Read"),
    ("annotate", "Annotate"),
    ("manage", "Manage: all I may do"),
]


class ThrottledAuthenticationForm(AuthenticationForm):
    """Signing in, with a limit on guesses."""

    wait_s = 0

    def clean(self) -> dict[str, Any]:
        """Check the password, unless it was guessed too often.

        Raises:
            ValidationError: wrong, or too many attempts.
        """
        attempt = throttling.LoginAttempt(
            username=str(self.cleaned_data.get("username", "")),
            address=throttling.address_of(self.request) if self.request else "",
        )
        if not attempt.is_allowed():
            self.wait_s = attempt.wait_s
            minutes = -(-attempt.wait_s // 60)
            raise ValidationError(
                f"Too many attempts. Wait {minutes} minute{'' if minutes == 1 else 's'}, "
                "then try again."
            )
        cleaned: dict[str, Any] = super().clean()
        attempt.succeeded()
        return cleaned


class SignInPage(LoginView):
    """The sign-in page."""

    template_name = "accounts/login.html"
    authentication_form = ThrottledAuthenticationForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Show the form again; too many attempts are a 429."""
        response = super().form_invalid(form)
        if wait := getattr(form, "wait_s", 0):
            response.status_code = 429
            response["Retry-After"] = str(wait)
        return response


class JoinForm(forms.Form):
    """A new account through an invitation."""

    username = forms.CharField(max_length=150, label="User name")
    full_name = forms.CharField(max_length=150, required=False, label="Your name (optional)")
    password = forms.CharField(widget=forms.PasswordInput, label="Password")


def join(request: HttpRequest, secret: str) -> HttpResponse:
    """Show an invitation and let the visitor accept it, as themselves or with a new account."""
    invitation = services.find_invitation(secret=secret, now=timezone.now())
    if invitation is None:
        return render(request, "accounts/invitation_gone.html", status=410)
    form = JoinForm(request.POST or None)
    if request.method == "POST":
        user = request.user if isinstance(request.user, User) else None
        joined = _join(request, secret, form, user)
        if joined:
            messages.success(request, f"Welcome to {invitation.project.name}.")
            return redirect("project", invitation.project_id)
    return render(
        request,
        "accounts/join.html",
        {"invitation": invitation, "role": Role(invitation.role).label.lower(), "form": form},
    )


def _join(request: HttpRequest, secret: str, form: JoinForm, user: User | None) -> bool:
    now = timezone.now()
    try:
        if user:
            services.accept_invitation(secret=secret, user=user, now=now)
            return True
        if not form.is_valid():
            return False
        user = services.join_as_new_user(secret=secret, now=now, **form.cleaned_data)
    except services.InvitationInvalidError as error:
        form.add_error(None, str(error))
        return False
    except ValidationError as error:
        for field, texts in _by_field(error).items():
            form.add_error(field, texts)
        return False
    login(request, user)
    return True


def _by_field(error: ValidationError) -> dict[str, list[str]]:
    if hasattr(error, "error_dict"):
        return {
            field if field in JoinForm.base_fields else "username": texts
            for field, texts in error.message_dict.items()
        }
    return {"password": list(error.messages)}


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """Show the person's tokens and where to change the password."""
    user = User.objects.get(pk=request.user.pk or 0)
    context = {"tokens": selectors.personal_tokens(user), "scopes": PERSONAL_SCOPES}
    return render(request, "accounts/account.html", context)


@login_required
def password_change(request: HttpRequest) -> HttpResponse:
    """Change the password; the session goes on."""
    user = User.objects.get(pk=request.user.pk or 0)
    form = PasswordChangeForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed.")
        return redirect("account")
    return render(request, "accounts/password_change.html", {"form": form})
