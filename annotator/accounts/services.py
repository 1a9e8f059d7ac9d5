"""Every write to people, memberships, invitations and tokens."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import F, Q

from annotator.accounts import hooks
from annotator.accounts.models import ApiToken, Invitation, Membership, Role, User
from annotator.events import services as events

TOKEN_PREFIX = "ann_"  # noqa: S105 - a recognisable start, not a secret


class LastLeadError(Exception):
    """A project would be left without a lead."""


class InvitationInvalidError(Exception):
    """The invitation is unknown, used up, revoked or has expired."""


@dataclass(frozen=True)
class NewSecret:
    """Something created together with the secret that is shown only once."""

    pk: int
    secret: str


def hash_secret(secret: str) -> str:
    """Return the hash under which a random secret is stored (it needs no salt: 256 bits)."""
    return hashlib.sha256(secret.encode()).hexdigest()


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
    *, user: User, name: str, now: datetime, lifetime: timedelta | None = None
) -> NewSecret:
    """Create an API token and return its secret, which cannot be read again."""
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=secret[:12],
        secret_hash=hash_secret(secret),
        expires_at=now + lifetime if lifetime else None,
    )
    events.record(
        kind="token.created", project_id=None, actor_id=user.pk, payload={"token": token.pk}
    )
    return NewSecret(token.pk, secret)


@transaction.atomic
def revoke_token(*, token: ApiToken, now: datetime, actor: User) -> None:
    """Make a token useless from now on."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
    events.record(
        kind="token.revoked", project_id=None, actor_id=actor.pk, payload={"token": token.pk}
    )


def find_token(*, secret: str, now: datetime) -> ApiToken | None:
    """Return the living token with this secret and note its use (at most once a minute)."""
    token = (
        ApiToken.objects.select_related("user")
        .filter(secret_hash=hash_secret(secret), revoked_at=None, user__is_active=True)
        .filter(Q(expires_at=None) | Q(expires_at__gt=now))
        .first()
    )
    if token and (token.last_used_at is None or token.last_used_at < now - timedelta(minutes=1)):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


@transaction.atomic
def set_role(*, project_id: int, user: User, role: Role, actor: User) -> Membership:
    """Make the user a member with this role, or change the role.

    Raises:
        LastLeadError: the only lead would lose the role.
    """
    former = Membership.objects.select_for_update().filter(project_id=project_id, user=user).first()
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
    membership = Membership.objects.select_for_update().get(project_id=project_id, user=user)
    if membership.role == Role.LEAD:
        _refuse_last_lead(project_id, user)
    membership.delete()
    hooks.member_removed(project_id, user.pk)
    events.record(
        kind="member.removed", project_id=project_id, actor_id=actor.pk, payload={"user": user.pk}
    )


def _refuse_last_lead(project_id: int, user: User) -> None:
    others = Membership.objects.filter(project_id=project_id, role=Role.LEAD).exclude(user=user)
    if not others.exists():
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
