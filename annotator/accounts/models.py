"""People, their roles in projects, their invitations and their API tokens."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone


class User(AbstractUser):
    """A person, or a service: what a program is called that acts in one project.

    ``is_superuser`` is the site admin. A service has tokens only; the database sees that it has no
    password.
    """

    service_of = models.ForeignKey(
        "labeling.Project",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="services",
    )

    class Meta:
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(
                condition=Q(service_of__isnull=True)
                | Q(
                    password__startswith="!",  # noqa: S106 - what Django calls unusable
                    is_superuser=False,
                    is_staff=False,
                ),
                name="a_service_cannot_sign_in",
            ),
            models.UniqueConstraint(
                fields=["service_of", "first_name"],
                condition=Q(service_of__isnull=False),
                name="one_service_per_name",
            ),
        ]

    @property
    def shown_name(self) -> str:
        """The full name, or the user name when none was given; a service is shown as one."""
        name = self.get_full_name() or self.username
        return f"{name} (service)" if self.service_of_id else name


class Role(models.IntegerChoices):
    """What a member may do in a project; a higher role includes the lower ones."""

    ANNOTATOR = 10, "Annotator"
    REVIEWER = 20, "Reviewer"
    LEAD = 30, "Lead"


class Membership(models.Model):
    """The role of one person in one project."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.PositiveSmallIntegerField(choices=Role.choices, default=Role.ANNOTATOR)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-role", "user__username"]
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_role_per_member"),
            models.CheckConstraint(
                condition=Q(role__in=Role.values), name="membership_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.get_role_display()} of {self.project}"


class Invitation(models.Model):
    """A link that makes whoever opens it a member; only a hash of its secret is stored."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="invitations"
    )
    role = models.PositiveSmallIntegerField(choices=Role.choices, default=Role.ANNOTATOR)
    secret_hash = models.CharField(max_length=64, unique=True)
    note = models.CharField(max_length=100, blank=True)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    uses_left = models.PositiveIntegerField(default=1)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"invitation {self.pk} to {self.project}"


class Scope(models.IntegerChoices):
    """What a token may be used for, whatever its owner may do; a wider one includes the others."""

    READ = 10, "Read"
    ANNOTATE = 20, "Annotate"
    MANAGE = 30, "Manage"


class ApiToken(models.Model):
    """A secret a program signs in with, as a person or as a service; only its hash is stored.

    It may do what both its scope and the role its user has at that moment allow.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=100)
    scope = models.PositiveSmallIntegerField(choices=Scope.choices, default=Scope.READ)
    prefix = models.CharField(max_length=12)
    secret_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(scope__in=Scope.values), name="token_scope_is_known")
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.user}"

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= timezone.now()


class RateCount(models.Model):
    """How often something was done in one window of time; what the web processes share."""

    key = models.CharField(max_length=100)
    window = models.BigIntegerField(help_text="its start, in seconds since 1970")
    n = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "window"], name="one_count_per_window")
        ]
        indexes = [models.Index(fields=["window"], name="rate_count_window")]

    def __str__(self) -> str:
        return f"{self.n} times {self.key}"
