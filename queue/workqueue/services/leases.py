"""Who holds which image: claim, prolong, release."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from itertools import count
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import (
    Aggregate,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Power

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Annotation, Image, Project
from annotator.prepared import Given, Prepared, PreparedUpdate, insert_all
from workqueue import stopping
from workqueue.models import Lease, QueueSettings, QueueState, RankedImage, Ranking, Skip
from workqueue.requests import queue_of, settings_of
from workqueue.services.transactions import retried_on_collision

MAX_CLAIM = 20
BEGUN = "begun"
_BIT_OF_SLOT = Power(Value(2), F("slot"), output_field=IntegerField())

_EXPIRE = PreparedUpdate(
    lambda: Lease.objects.filter(
        project=Given("project"), state=Lease.State.LIVE, expires_at__lte=Given("now")
    ),
    state=Lease.State.EXPIRED,
)
_OF_CLIENT = {
    "project": Given("project"),
    "user": Given("user"),
    "client": Given("client"),
    "state": Lease.State.LIVE,
}
_MINE = Prepared(
    lambda: (
        Lease.objects.select_for_update(of=("self",))
        .filter(**_OF_CLIENT)
        .select_related("image")
        .order_by("pk")
    )
)
_PROLONG_YOUNG = PreparedUpdate(
    lambda: Lease.objects.filter(**_OF_CLIENT, granted_at__gte=Given("young")),
    expires_at=Given("until"),
)
_PROLONG = PreparedUpdate(
    lambda: Lease.objects.filter(pk=Given("lease")), expires_at=Given("until")
)
_LEASE = Prepared(
    lambda: Lease.objects.select_for_update().filter(
        token=Given("token"), user=Given("user"), project=Given("project")
    )
)
_END = PreparedUpdate(lambda: Lease.objects.filter(pk=Given("lease")), state=Given("state"))


class LeaseUnknownError(Exception):
    """There is no such lease of this person."""


class LeaseLostError(Exception):
    """The lease has run out or was taken back; a submit with it is still accepted."""


@dataclass(frozen=True)
class Claimed:
    """What a claim gave."""

    leases: list[Lease] = field(default_factory=list)


@retried_on_collision
def claim(
    *,
    user: User,
    project: Project,
    n: int,
    now: datetime,
    client: str = "",
    fresh: bool = False,
    keep: Collection[str] = (),
) -> Claimed:
    """Give the person the ``n`` best free images, the ones this client holds already first.

    Those are prolonged, up to the longest hold; with ``n=0`` nothing else is done.

    Args:
        user: who labels.
        project: where.
        n: how many leases the client wants to hold, at most ``MAX_CLAIM``.
        now: the time the leases start.
        client: the browser tab or program; each has leases of its own.
        fresh: give back what the client holds (but for ``keep``) and take the best again: used
            after a new ranking.
        keep: lease tokens that ``fresh`` leaves alone.
    """
    settings, state = _queue_for_claim(project)
    until = now + settings.lease_length
    _EXPIRE.run(project=project, now=now)
    mine = _MINE.all(project=project, user=user, client=client)
    held = _prolong(mine, settings, now, keep if fresh else None)
    wanted = min(n, MAX_CLAIM) - len(held)
    if wanted > 0:
        is_closed = settings.stop_is_hard and stopping.advice(project, settings).closes_queue
        choose = partial(_best_free, settings, state, user, wanted)
        free = [] if is_closed else _surely_free(settings.project, choose)
        granted = [
            Lease(
                image=place.image,
                project=project,
                user=user,
                client=client,
                slot=place.slot,
                served=place.served,
                granted_at=now,
                expires_at=until,
            )
            for place in free
        ]
        held += insert_all(granted) if granted else []
    return Claimed(held)


def _queue_for_claim(project: Project) -> tuple[QueueSettings, QueueState]:
    """Return the settings, and with them the overlap, and the pointers, as they are now."""
    settings, state = queue_of(project)
    if _shares_images(settings.project) and connection.features.has_select_for_update:
        # One claim of the project at a time, as on SQLite: of several people who want the same
        # image each must see which places the others took.
        QueueSettings.objects.select_for_update(no_key=True).get(pk=settings.pk)
        return queue_of(project)
    return settings, state


def _prolong(
    mine: Sequence[Lease], settings: QueueSettings, now: datetime, keep: Collection[str] | None
) -> list[Lease]:
    """Prolong what a client holds and return it, but for what need not be shown any more.

    Args:
        mine: the client's live leases, locked, each with its image.
        settings: say how long a lease is, and for how long it can be held.
        now: the time of the claim.
        keep: the tokens of those that stay, or None for all.
    """
    held: list[Lease] = []
    over: list[int] = []
    for lease in mine:
        # What was labelled or deleted meanwhile is shown to nobody.
        is_open = lease.image.status == Image.Status.OPEN and lease.image.deleted_at is None
        stays = keep is None or str(lease.token) in keep
        if is_open and stays:
            held.append(lease)
        else:
            over.append(lease.pk)
    if over:
        Lease.objects.filter(pk__in=over).update(state=Lease.State.RELEASED)
    if held:
        _set_ends(held, settings, now)
    return held


def _set_ends(held: Sequence[Lease], settings: QueueSettings, now: datetime) -> None:
    until = now + settings.lease_length
    # One statement, but for those that near the longest hold.
    young = until - settings.longest_hold
    _PROLONG_YOUNG.run(
        project=held[0].project_id, user=held[0].user_id, client=held[0].client,
        young=young, until=until,
    )  # fmt: skip
    for lease in held:
        lease.expires_at = _end(lease, settings, now)
        if lease.granted_at < young:
            _PROLONG.run(lease=lease, until=lease.expires_at)


def _end(lease: Lease, settings: QueueSettings, now: datetime) -> datetime:
    """Return when a lease ends that is prolonged now: a whole length, within the longest hold."""
    last = max(lease.granted_at + settings.longest_hold, lease.expires_at)
    return min(now + settings.lease_length, last)


@dataclass(frozen=True)
class _Place:
    """A free place of an image: its overlap is how many places an image has."""

    image: Image
    slot: int
    served: dict[str, Any]


def _shares_images(project: Project) -> bool:
    """Return whether an image may be with several people, or have labels and still be open."""
    return project.annotators_per_image > 1 or project.is_settling


def _surely_free(project: Project, choose: Callable[[], list[_Place]]) -> list[_Place]:
    """Choose until nothing that was chosen has been leased meanwhile.

    PostgreSQL chooses among what was free when the query began, and locks it afterwards: another
    claim may have leased an image and committed in between. The lock of the image, which every
    claim takes, makes the second look final. Where people share images, claims do not meet.
    """
    _walk_in_order()
    while True:
        free = choose()
        may_collide = connection.features.has_select_for_update_skip_locked
        if not free or not may_collide or _shares_images(project):
            return free
        chosen = [place.image.pk for place in free]
        if not Lease.objects.filter(image__in=chosen, state=Lease.State.LIVE).exists():
            return free


def _walk_in_order() -> None:
    """Have PostgreSQL go down the ranking until it has enough, for the rest of the transaction.

    It plans by statistics, and has none of a ranking of this minute or of who holds what; left
    alone it may join all positions, all leases and all open images, and sort what it gets: half a
    second with 5,000 positions, where going down the index takes a millisecond.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('enable_sort', 'off', true), "
                "set_config('join_collapse_limit', '1', true)"
            )


def _best_free(settings: QueueSettings, state: QueueState, user: User, n: int) -> list[_Place]:
    project = settings.project
    found = _best_ranked(project, state.ranking, user, n) if state.ranking else []
    if len(found) < n:
        taken = [place.image.pk for place in found]
        order = "pk" if settings.heuristic == QueueSettings.Heuristic.NONE else "random_key"
        images = Image.objects.filter(
            project=project, status=Image.Status.OPEN, deleted_at=None
        ).exclude(pk__in=taken)
        wanted = project.annotators_per_image if _shares_images(project) else None
        rest = _free_for(images.order_by(order), "pk", user, wanted)
        found += [
            _Place(image, _lowest_free(image), {"kind": "unranked"})
            for image in rest[: n - len(found)]
        ]
    return found


def _best_ranked(project: Project, ranking: Ranking, user: User, n: int) -> list[_Place]:
    query = _ranked_free_for(n, is_shared=_shares_images(project))
    found = query.all(ranking=ranking, user=user, wanted=project.annotators_per_image)
    return [
        _Place(ranked.image, _lowest_free(ranked), why_served(ranking, ranked)) for ranked in found
    ]


@cache
def _ranked_free_for(n: int, *, is_shared: bool) -> Prepared[RankedImage]:
    """Return the query for the first ``n`` ranked images that are free for a person."""

    def build() -> QuerySet[RankedImage]:
        ranked = RankedImage.objects.filter(
            ranking=Given("ranking"),
            is_done=False,
            image__status=Image.Status.OPEN,
            image__deleted_at=None,
        )
        ordered = ranked.select_related("image").order_by("position")
        wanted = Given("wanted", IntegerField()) if is_shared else None
        free: QuerySet[RankedImage] = _free_for(ordered, "image", Given("user"), wanted)
        return free[:n]

    return Prepared(build)


def _free_for(
    rows: QuerySet[Any], image: str, user: User | Given, wanted: int | Given | None
) -> QuerySet[Any]:
    """Return the rows whose image has a free place that the person may take.

    Args:
        rows: images, or what names them.
        image: where a row names its image.
        user: who asks.
        wanted: how many people may have the image or have labelled it, or None where people do not
            share images.
    """
    if wanted is None:
        free = rows.filter(~_leased(image), ~_skipped(image, user))
        return _skip_locked(free, "self" if image == "pk" else image)
    live = Lease.objects.filter(image=OuterRef(image), state=Lease.State.LIVE)
    shared: QuerySet[Any] = (
        rows.filter(~_had(image, user), ~_skipped(image, user))
        .annotate(taken_slots=_of_image(live, Sum(_BIT_OF_SLOT)))
        .alias(n_taken=_n_taken(image))
        .filter(n_taken__lt=wanted)
    )
    return shared


class _ExistsForEach(Exists):
    """``EXISTS``, looked up for one row after another.

    PostgreSQL would turn a plain one into a join with all leases. An offset stops it
    (``simplify_EXISTS_query`` in its subselect.c).
    """

    template = "EXISTS(%(subquery)s OFFSET 0)"


def _leased(image: str) -> Exists:
    return _ExistsForEach(Lease.objects.filter(image=OuterRef(image), state=Lease.State.LIVE))


def _skipped(image: str, user: User | Given) -> Exists:
    return _ExistsForEach(Skip.objects.filter(image=OuterRef(image), user=user))


def _had(image: str, user: User | Given) -> Q:
    """Hold where the person has labelled the image, or has it now."""
    standing = Annotation.objects.filter(image=OuterRef(image), author=user, is_current=True)
    # The sum keeps SQLite from looking through all leases of the person for each image.
    leases = Lease.objects.filter(
        image=OuterRef(image), state__in=[Lease.State.LIVE, Lease.State.SUBMITTED]
    ).alias(holder=F("user_id") + 0)
    holder = user if isinstance(user, Given) else user.pk
    return Q(Exists(standing)) | Q(Exists(leases.filter(holder=holder)))


def _n_taken(image: str) -> Combinable:
    """Return how many places of the image are taken: by labels, and by those who hold it."""
    live = Lease.objects.filter(image=OuterRef(image), state=Lease.State.LIVE)
    standing = Annotation.objects.filter(image=OuterRef(image), is_current=True)
    return _of_image(live, Count("pk")) + _of_image(standing, Count("pk"))


def _of_image(rows: QuerySet[Any], figure: Aggregate) -> Coalesce:
    """Return a figure of those rows that belong to the image, 0 when there are none."""
    grouped = rows.order_by().values("image").annotate(figure=figure).values("figure")
    return Coalesce(Subquery(grouped, output_field=IntegerField()), 0)


def _lowest_free(row: Any) -> int:
    """Return the lowest slot that is not among those taken, each of which is one bit."""
    taken = int(getattr(row, "taken_slots", 0))
    return next(slot for slot in count() if not taken >> slot & 1)


def _skip_locked(rows: QuerySet[Any], image: str) -> QuerySet[Any]:
    # On SQLite the IMMEDIATE transaction already lets one claim in at a time. Ranked or not, the
    # lock is the image's: two claims that lease the same images in another order would deadlock.
    # No key: a ranking that is being written refers to the images, and must not hide them.
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, no_key=True, of=(image,))
    return rows


def why_served(ranking: Ranking, ranked: RankedImage) -> dict[str, Any]:
    """Return what is remembered of why an image was served, with the lease and the label."""
    model = ranking.model_version
    begun = ranked.position <= ranking.n_begun
    return {
        "kind": BEGUN if begun else ranking.kind,
        "ranking": ranking.number,
        "heuristic": ranking.heuristic,
        "score": ranked.score,
        "position": ranked.position if begun else ranked.position - ranking.n_begun,
        "n_positions": ranking.n_begun if begun else ranking.n_positions - ranking.n_begun,
        "n_candidates": ranking.n_candidates,
        "n_pool": ranking.n_pool,
        "explored": ranked.explored,
        "draw_probability": ranked.draw_probability,
        "top_classes": ranked.top_classes,
        "model": model.number if model else None,
        "model_created_at": model.created_at.isoformat() if model else None,
        "model_n_labels": model.n_labels if model else None,
        "external_model": ranking.external_model,
    }


def lease_of(user: User, project: Project, token: str) -> Lease:
    """Return a lease of the person, locked.

    Raises:
        LeaseUnknownError: there is no such lease of this person in this project.
    """
    lease = _LEASE.first(token=UUID(token), user=user, project=project)
    if lease is None:
        raise LeaseUnknownError("There is no such lease of yours in this project.")
    return lease


def finish(lease: Lease, final: str) -> None:
    """End a lease."""
    # Whoever else holds the image (after this lease had run out) keeps the lease: a second opinion
    # is kept too.
    _END.run(lease=lease, state=final)


def has_room_beside(image: Image, user_id: int) -> bool:
    """Return whether the image has a place for the person beside those who hold it now.

    The caller has locked the image. Where nobody else holds it there always is.
    """
    others = Lease.objects.filter(image=image, state=Lease.State.LIVE).exclude(user=user_id)
    n_others = others.count()
    labelled = Annotation.objects.filter(image=image, is_current=True).exclude(author=user_id)
    return not n_others or n_others + labelled.count() < image.project.annotators_per_image


def end_leases_of(image: Image, user: User) -> None:
    """End what the person holds of an image or has answered: it is theirs to take anew."""
    theirs = Lease.objects.filter(
        image=image, user=user, state__in=[Lease.State.LIVE, Lease.State.SUBMITTED]
    )
    theirs.update(state=Lease.State.RELEASED)


def grant(
    *,
    image: Image,
    project: Project,
    user: User,
    client: str,
    served: dict[str, Any],
    now: datetime,
) -> Lease:
    """Give one person a certain image, in a slot nobody has."""
    return Lease.objects.create(
        image=image,
        project=project,
        user=user,
        client=client,
        slot=_free_slot(image),
        served=served,
        granted_at=now,
        expires_at=now + settings_of(project).lease_length,
    )


def _free_slot(image: Image) -> int:
    taken = set(
        Lease.objects.filter(image=image, state=Lease.State.LIVE).values_list("slot", flat=True)
    )
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


@transaction.atomic
def heartbeat(*, user: User, project: Project, lease_token: str, now: datetime) -> datetime:
    """Prolong a lease and return its new end, which is never after the longest hold.

    Raises:
        LeaseUnknownError: no such lease of this person.
        LeaseLostError: it is over; what was chosen can still be submitted.
    """
    lease = lease_of(user, project, lease_token)
    settings = settings_of(project)
    if lease.state != Lease.State.LIVE or lease.expires_at <= now:
        why = "The time for this image ran out"
        if lease.expires_at >= lease.granted_at + settings.longest_hold:
            why = "This image was held for as long as one person may hold one"
        raise LeaseLostError(
            f"{why} and it may be with somebody else now. Your label will be kept all the same."
        )
    until = _end(lease, settings, now)
    _PROLONG.run(lease=lease, until=until)
    return until


@transaction.atomic
def release(*, user: User, project: Project, lease_token: str) -> None:
    """Give an image back to the queue, at its old position.

    Raises:
        LeaseUnknownError: no such lease of this person.
    """
    lease = lease_of(user, project, lease_token)
    if lease.state == Lease.State.LIVE:
        Lease.objects.filter(pk=lease.pk).update(state=Lease.State.RELEASED)


@transaction.atomic
def release_person(*, project: Project, user_id: int, actor: User) -> int:
    """Give back all images one person holds, for a lead; return how many.

    What the person has on the screen can still be submitted and is kept.
    """
    n = end_leases(project.pk, user_id)
    if n:
        events.record(
            kind="leases.released",
            project_id=project.pk,
            actor_id=actor.pk,
            payload={"user": user_id, "n": n},
        )
    return n


def end_all_leases(project_id: int) -> int:
    """End all leases of a project, in the caller's transaction; return how many."""
    held = Lease.objects.filter(project=project_id, state=Lease.State.LIVE)
    return held.update(state=Lease.State.RELEASED)


def end_leases(project_id: int, user_id: int) -> int:
    """End all leases of a person in a project, in the caller's transaction; return how many."""
    held = Lease.objects.filter(project=project_id, user=user_id, state=Lease.State.LIVE)
    return held.update(state=Lease.State.RELEASED)
