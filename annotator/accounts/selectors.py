"""Reads of people and tokens."""

from django.db.models import QuerySet

from annotator.accounts.models import ApiToken, Membership, Role, User


def personal_tokens(user: User) -> QuerySet[ApiToken]:
    """Return the person's tokens that were not revoked, the newest first."""
    return ApiToken.objects.filter(user=user, revoked_at=None).order_by("-pk")


def service_tokens(project_id: int) -> QuerySet[ApiToken]:
    """Return the tokens of the project's services that were not revoked, the newest first."""
    return (
        ApiToken.objects.filter(user__service_of=project_id, revoked_at=None)
        .select_related("user", "created_by")
        .prefetch_related("user__memberships")
        .order_by("-pk")
    )


def roles_of(user: User) -> list[tuple[int, Role]]:
    """Return the person's memberships of living projects, the newest project first."""
    found = Membership.objects.filter(user=user, project__deleted_at=None).order_by("-project")
    if user.service_of_id:
        found = found.filter(project=user.service_of_id)
    return [(entry.project_id, Role(entry.role)) for entry in found]
