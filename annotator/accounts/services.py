"""Every write to people, memberships, invitations and tokens."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from annotator.accounts import hooks
from annotator.accounts.models import (
    ApiToken,
    Invitation,
    Membership,
    RateCount,
    Role,
    Scope,
    User,
)
from annotator.accounts.secrets import (
    PERSONAL,
    PREFIX_SHOWN,
    SERVICE,
    hash_secret,
    is_well_formed,
    new_token,
)
from annotator.events import services as events
from annotator.prepared import Given, Prepared

# The role a service gets with a token of this scope, unless its lead chooses another.
_TOKEN = Prepared(
    lambda: (
        ApiToken.objects.select_related("user")
        .filter(secret_hash=Given("secret_hash"), revoked_at=None, user__is_active=True)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Given("now")))
    )
)

ROLE_OF_SCOPE = {
    Scope.READ: Role.REVIEWER,
    Scope.ANNOTATE: Role.ANNOTATOR,
    Scope.MANAGE: Role.LEAD,
}


class LastLeadError(Exception):
    """A project would be left without a lead."""


class InvitationInvalidError(Exception):
    """The invitation is unknown, used up, revoked or has expired."""


@dataclass(frozen=True)
class NewSecret:
    """Something created together with the secret that is shown only once."""

    pk: int
    secret: str


@transaction.atomic
def create_admin(*, username: str, password: str | None) -> tuple[User, str]:
    """Create a site admin; without a password a random one is made and returned."""
    password = password or secrets.token_urlsafe(12)
    user = User(username=username, is_superuser=True, is_staff=True)
    user.set_password(password)
    user.save()
    events.record(kind="user.created", project_id=None, actor_id=user.pk, payload={"admin": True})
    return user, password


def ensure_robot(*, username: str, name: str) -> User:
    """Return the user a command acts as; nobody can sign in as it."""
    user, created = User.objects.get_or_create(
        username=username, defaults={"is_active": False, "first_name": name}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


@transaction.atomic
def create_token(
    *,
    user: User,
    name: str,
    now: datetime,
    lifetime: timedelta | None = None,
    scope: Scope = Scope.MANAGE,
    made_with: ApiToken | None = None,
) -> NewSecret:
    """Create a person's API token and return its secret, which cannot be read again.

    Args:
        user: whose.
        name: what it is for.
        now: the time.
        lifetime: how long it works; for ever when left out.
        scope: what it may be used for.
        made_with: the token that asks for it; the new one does not outlive it.
    """
    token, secret = _new_token(
        user, PERSONAL, name=name, scope=scope, created_by=user,
        expires_at=_end_of(now, lifetime, made_with),
    )  # fmt: skip
    events.record(
        kind="token.created",
        project_id=None,
        actor_id=user.pk,
        payload={"token": token.pk, "scope": scope},
    )
    return NewSecret(token.pk, secret)


@transaction.atomic
def create_service_token(
    *,
    project_id: int,
    name: str,
    scope: Scope,
    actor: User,
    now: datetime,
    role: Role | None = None,
    lifetime: timedelta | None = None,
    made_with: ApiToken | None = None,
) -> NewSecret:
    """Create a token that acts as a service of this name, in this project alone.

    The same name is the same service again, so that a token can be replaced by a fresh one and the
    history goes on under one name; its role is never lowered by that.
    """
    service, _ = User.objects.get_or_create(
        service_of_id=project_id,
        first_name=name,
        defaults={"username": f"service-{secrets.token_hex(8)}", "password": "!"},
    )
    wanted = role or ROLE_OF_SCOPE[scope]
    former = Membership.objects.filter(project_id=project_id, user=service).first()
    if former is None or former.role < wanted:
        set_role(project_id=project_id, user=service, role=wanted, actor=actor)
    token, secret = _new_token(
        service, SERVICE, name=name, scope=scope, created_by=actor,
        expires_at=_end_of(now, lifetime, made_with),
    )  # fmt: skip
    events.record(
        kind="service_token.created",
        project_id=project_id,
        actor_id=actor.pk,
        payload={"token": token.pk, "service": service.pk, "name": name, "scope": scope},
    )
    return NewSecret(token.pk, secret)


def _new_token(user: User, kind: str, **fields: Any) -> tuple[ApiToken, str]:
    secret = new_token(kind)
    token = ApiToken.objects.create(
        user=user, prefix=secret[:PREFIX_SHOWN], secret_hash=hash_secret(secret), **fields
    )
    return token, secret


def _end_of(
    now: datetime, lifetime: timedelta | None, made_with: ApiToken | None
) -> datetime | None:
    ends = [now + lifetime] if lifetime else []
    if made_with and made_with.expires_at:
        ends.append(made_with.expires_at)
    return min(ends, default=None)


@transaction.atomic
def revoke_token(*, token: ApiToken, now: datetime, actor: User) -> None:
    """Make a token useless from now on; a service without any leaves its project."""
    if not ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
        return
    project_id = token.user.service_of_id
    events.record(
        kind="service_token.revoked" if project_id else "token.revoked",
        project_id=project_id,
        actor_id=actor.pk,
        payload={"token": token.pk},
    )
    if project_id and not ApiToken.objects.filter(user=token.user_id, revoked_at=None).exists():
        _remove_service(project_id, token.user, actor)


def _remove_service(project_id: int, service: User, actor: User) -> None:
    # A lead may have taken it out of the project already.
    if Membership.objects.filter(project_id=project_id, user=service).exists():
        remove_member(project_id=project_id, user=service, actor=actor)


def find_token(*, secret: str, now: datetime) -> ApiToken | None:
    """Return the living token with this secret and note its use (at most once a minute)."""
    if not is_well_formed(secret):
        return None
    token = _TOKEN.first(secret_hash=hash_secret(secret), now=now)
    if token and (token.last_used_at is None or token.last_used_at < now - timedelta(minutes=1)):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def note_token_in_address(*, secret: str, now: datetime) -> None:
    """Write down that a living token stood in an address, where logs and histories keep it.

    Once an hour: nobody can fill the history with it, which is never cleared.
    """
    # Before any transaction: who has no token must not make those wait who write.
    token = find_token(secret=secret, now=now)
    if token is None:
        return
    hour = int(now.timestamp()) // 3600 * 3600
    with transaction.atomic():
        if add_to_count(key=f"token-in-address:{token.pk}", window=hour) > 1:
            return
        events.record(
            kind="token.in_address",
            project_id=token.user.service_of_id,
            actor_id=token.user_id,
            payload={"token": token.pk},
        )


@transaction.atomic
def set_role(*, project_id: int, user: User, role: Role, actor: User) -> Membership:
    """Make the user a member with this role, or change the role.

    Raises:
        LastLeadError: the only lead would lose the role.
    """
    _lock_members(project_id)
    former = Membership.objects.filter(project_id=project_id, user=user).first()
    if former and former.role == Role.LEAD and role < Role.LEAD:
        _refuse_last_lead(project_id, user)
    membership, _ = Membership.objects.update_or_create(
        project_id=project_id, user=user, defaults={"role": role}
    )
    events.record(
        kind="member.role_set",
        project_id=project_id,
        actor_id=actor.pk,
        payload={"user": user.pk, "before": former.role if former else None, "after": role},
    )
    return membership


@transaction.atomic
def remove_member(*, project_id: int, user: User, actor: User) -> None:
    """Take the user out of the project; their labels stay, the images they hold are free at once.

    Raises:
        LastLeadError: they are the only lead.
    """
    _lock_members(project_id)
    membership = Membership.objects.get(project_id=project_id, user=user)
    if membership.role == Role.LEAD:
        _refuse_last_lead(project_id, user)
    membership.delete()
    if user.service_of_id:
        ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=Now())
    hooks.member_removed(project_id, user.pk)
    events.record(
        kind="member.removed", project_id=project_id, actor_id=actor.pk, payload={"user": user.pk}
    )


def _lock_members(project_id: int) -> None:
    """Let one change of a project's leads wait for another: each must see who is left."""
    leads = Membership.objects.select_for_update().filter(project_id=project_id, role=Role.LEAD)
    list(leads.order_by("pk").values_list("pk", flat=True))


def _refuse_last_lead(project_id: int, user: User) -> None:
    people = Membership.objects.filter(
        project_id=project_id, role=Role.LEAD, user__service_of=None
    ).exclude(user=user)
    if not people.exists():
        raise LastLeadError("A project needs a lead: make somebody else lead first.")


@transaction.atomic
def invite(
    *,
    project_id: int,
    role: Role,
    actor: User,
    now: datetime,
    note: str = "",
    uses: int = 1,
    days: int = 7,
) -> NewSecret:
    """Create an invitation and return the secret of its link, shown only once."""
    secret = secrets.token_urlsafe(24)
    invitation = Invitation.objects.create(
        project_id=project_id,
        role=role,
        note=note,
        invited_by=actor,
        secret_hash=hash_secret(secret),
        expires_at=now + timedelta(days=days),
        uses_left=uses,
    )
    events.record(
        kind="invitation.created",
        project_id=project_id,
        actor_id=actor.pk,
        payload={"invitation": invitation.pk, "role": role, "uses": uses},
    )
    return NewSecret(invitation.pk, secret)


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, actor: User, now: datetime) -> None:
    """Make an invitation's link useless."""
    Invitation.objects.filter(pk=invitation.pk, revoked_at=None).update(revoked_at=now)
    events.record(
        kind="invitation.revoked",
        project_id=invitation.project_id,
        actor_id=actor.pk,
        payload={"invitation": invitation.pk},
    )


def find_invitation(*, secret: str, now: datetime) -> Invitation | None:
    """Return the invitation a link stands for, if it can still be used."""
    return (
        Invitation.objects.select_related("project", "invited_by")
        .filter(
            secret_hash=hash_secret(secret),
            revoked_at=None,
            expires_at__gt=now,
            uses_left__gt=0,
            project__deleted_at=None,
        )
        .first()
    )


@transaction.atomic
def accept_invitation(*, secret: str, user: User, now: datetime) -> Membership:
    """Use an invitation up by one and make the user a member; a higher role is kept.

    Raises:
        InvitationInvalidError: it cannot be used (any more).
    """
    invitation = find_invitation(secret=secret, now=now)
    if invitation is None:
        raise InvitationInvalidError("This invitation has been used up, revoked or has expired.")
    existing = Membership.objects.filter(project_id=invitation.project_id, user=user).first()
    if existing and existing.role >= invitation.role:
        return existing
    used = Invitation.objects.filter(pk=invitation.pk, uses_left__gt=0).update(
        uses_left=F("uses_left") - 1
    )
    if not used:
        raise InvitationInvalidError("This invitation has just been used up.")
    return set_role(
        project_id=invitation.project_id, user=user, role=Role(invitation.role), actor=user
    )


@transaction.atomic
def join_as_new_user(
    *, secret: str, username: str, password: str, full_name: str, now: datetime
) -> User:
    """Create an account through an invitation.

    Raises:
        InvitationInvalidError: it cannot be used (any more).
        ValidationError: the password is too weak or the user name not usable.
    """
    user = User(username=username, first_name=full_name[:150])
    validate_password(password, user)
    user.set_password(password)
    user.full_clean(exclude=["password"])
    user.save()
    events.record(kind="user.created", project_id=None, actor_id=user.pk, payload={})
    accept_invitation(secret=secret, user=user, now=now)
    return user


@transaction.atomic
def add_to_count(*, key: str, window: int, n: int = 1) -> int:
    """Count ``n`` more in the window and return how many there are, counting every process."""
    row = RateCount.objects.filter(key=key, window=window)
    if not row.update(n=F("n") + n):
        RateCount.objects.get_or_create(key=key, window=window)
        row.update(n=F("n") + n)
    return row.values_list("n", flat=True).get()


def forget_count(*, key: str, window: int) -> None:
    """Start again at nought."""
    RateCount.objects.filter(key=key, window=window).delete()


def forget_old_counts(*, before: datetime) -> None:
    """Drop the windows that began before a time."""
    RateCount.objects.filter(window__lt=int(before.timestamp())).delete()
