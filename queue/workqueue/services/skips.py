"""Images a person passes on, and takes back."""

from datetime import datetime

from django.db import transaction

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Annotation, Image, Project
from workqueue.models import Lease, Skip
from workqueue.services.leases import end_leases_of, finish, grant, has_room_beside, lease_of
from workqueue.services.transactions import retried_on_collision


class UnskipRefusedError(Exception):
    """The skip cannot be taken back; the text says why."""


@retried_on_collision
def skip(*, user: User, project: Project, lease_token: str, reason: str, comment: str = "") -> None:
    """Pass an image on to somebody else; it does not come back to this person by itself.

    Raises:
        LeaseUnknownError: no such lease of this person.
    """
    lease = lease_of(user, project, lease_token)
    Skip.objects.update_or_create(
        image_id=lease.image_id, user=user, defaults={"reason": reason, "comment": comment}
    )
    if lease.state == Lease.State.LIVE:
        finish(lease, Lease.State.SKIPPED)
    events.record(
        kind="image.skipped",
        project_id=project.pk,
        actor_id=user.pk,
        payload={"image": lease.image_id, "reason": reason, "comment": comment},
    )


@transaction.atomic
def unskip(*, user: User, project: Project) -> int:
    """Take all of the person's skipped images back into their queue; return how many."""
    skips = Skip.objects.filter(user=user, image__project=project, image__status=Image.Status.OPEN)
    n, _ = skips.delete()
    if n:
        events.record(
            kind="skips.taken_back", project_id=project.pk, actor_id=user.pk, payload={"n": n}
        )
    return n


@retried_on_collision
def unskip_one(
    *, user: User, project: Project, lease_token: str, now: datetime, client: str = ""
) -> Lease:
    """Take one skip back, named by the lease that was skipped, and give the image again.

    Raises:
        LeaseUnknownError: no such lease of this person.
        UnskipRefusedError: it was not skipped, or the image has labels enough or is deleted by now.
    """
    skipped = lease_of(user, project, lease_token)
    image = (
        Image.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project")
        .get(pk=skipped.image_id)
    )
    live = Lease.objects.filter(image=image, state=Lease.State.LIVE)
    skip_row = Skip.objects.filter(user=user, image=image).first()
    if skip_row is None:
        # The answer to a first request may have been lost on the way.
        mine = live.filter(user=user, expires_at__gt=now).first()
        if mine is None:
            raise UnskipRefusedError("This image is not among those you skipped.")
        return mine
    if image.deleted_at is not None:
        raise UnskipRefusedError("The skipped image was deleted meanwhile.")
    if image.status != Image.Status.OPEN:
        raise UnskipRefusedError("Somebody else has labelled the skipped image meanwhile.")
    if Annotation.objects.filter(image=image, author=user, is_current=True).exists():
        raise UnskipRefusedError("You have labelled the skipped image.")
    live.filter(expires_at__lte=now).update(state=Lease.State.EXPIRED)
    if not has_room_beside(image, user.pk):
        raise UnskipRefusedError("Somebody else has the skipped image on the screen now.")
    # Another tab of the same person may hold it.
    end_leases_of(image, user)
    skip_row.delete()
    events.record(
        kind="skips.taken_back", project_id=project.pk, actor_id=user.pk, payload={"n": 1}
    )
    return grant(
        image=image, project=project, user=user, client=client, served=skipped.served, now=now
    )
