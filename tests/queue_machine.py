"""What a queue must do whatever people do to it, as a machine that Hypothesis drives.

Beside the real services runs a model of a few dictionaries; after every step the database must hold
exactly what the model says. A failure names the invariant of docs/reliability.md it breaks.
"""

import io
import itertools
import sys
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from unittest import mock

import pytest
from django.db import connection
from factories import make_member, make_project
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image as Picture
from ranking_kit import rerank

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.ingest import services as ingest
from annotator.labeling import restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, AnnotationRegion, Image, Project
from workqueue import services
from workqueue.models import Lease, RankedImage, Skip, Submission
from workqueue.requests import settings_of, state_of

TTL = timedelta(minutes=10)
HOLD_LEASES = 3
N_PEOPLE = 3
ANY = st.integers(0, 59)  # which of those there are: see `pick`
PEOPLE = st.integers(0, N_PEOPLE - 1)
CLASSES = st.integers(0, 2)
OVERLAPS = st.sampled_from([1, 2, 2, N_PEOPLE])
SEEDS = st.randoms(use_true_random=False)
_colours = itertools.count()


@dataclass
class Kept:
    """A label that does not stand, and may again when what it names is back."""

    person: int
    cls: int
    is_last_word: bool = True  # its author has said nothing since
    others_since: bool = False


@dataclass
class Picked:
    """An image as the model knows it."""

    pk: int
    random_key: int
    wanted: int  # how many people are wanted for it
    is_alive: bool = True
    said: dict[int, tuple[int, int]] = field(default_factory=dict)  # person -> annotation, class
    kept: list[Kept] = field(default_factory=list)
    skipped_by: set[int] = field(default_factory=set)
    counts_for_round: set[int] = field(default_factory=set)  # whose labels the last one has not

    @property
    def has_enough(self) -> bool:
        return len(self.said) >= self.wanted

    @property
    def is_open(self) -> bool:
        return self.is_alive and not self.has_enough

    def keep(self, person: int, cls: int) -> None:
        for kept in self.kept:
            kept.is_last_word &= kept.person != person
        self.kept.append(Kept(person, cls))

    def hear(self, person: int) -> None:
        """Note that a label of the person stands now."""
        for kept in self.kept:
            kept.is_last_word &= kept.person != person
            kept.others_since |= kept.person != person

    def comes_back(self, kept: Kept) -> bool:
        """Whether it would stand again, if its class is there."""
        # Where one person is asked, what another has said since stands for the image.
        is_settled = self.wanted == 1 and kept.others_since
        return kept.is_last_word and kept.person not in self.said and not is_settled


@dataclass
class Held:
    """A lease as the model knows it."""

    token: str
    image: Picked
    person: int
    tab: str
    until: datetime
    granted: datetime
    wanted: int  # how many people were wanted when it was given
    is_live: bool = True

    def prolong(self, now: datetime) -> None:
        self.until = min(now + TTL, self.granted + HOLD_LEASES * TTL)


def pick(those, which: int):
    """Return one of those there are, the newest for 0."""
    newest_first = list(reversed(those))
    return newest_first[which % len(newest_first)]


class CrashedError(Exception):
    """The process died before its transaction could commit."""


def quick(**more) -> settings:
    return settings(
        **{
            "max_examples": 10,
            "stateful_step_count": 30,
            "deadline": None,
            "database": None,
            "derandomize": True,
            "print_blob": True,
            "suppress_health_check": list(HealthCheck),
            "phases": [Phase.explicit, Phase.generate, Phase.shrink],
        }
        | more
    )


class QueueMachine(RuleBasedStateMachine):
    """People, leads, rounds and crashes around one project."""

    # --- The start, and what the model knows ------------------------------------------------

    @initialize(n=st.integers(2, 5), overlap=OVERLAPS, seed=SEEDS)
    def start(self, n: int, overlap: int, seed) -> None:
        self.overlap = 1  # how many people are wanted for an image
        self.project = make_project()
        self.lead = self.project.created_by
        self.people = [make_member(self.project, Role.REVIEWER) for _ in range(N_PEOPLE)]
        config = settings_of(self.project)
        config.batch_size, config.lease_minutes = 10_000, TTL // timedelta(minutes=1)
        config.hold_leases = HOLD_LEASES
        config.save()
        self.now = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
        self.images: dict[int, Picked] = {}
        self.leases: list[Held] = []
        self.order: list[int] = []
        self.classes = [entry.pk for entry in self.project.classes.all()]
        self.deleted_classes: set[int] = set()
        self.answers: dict[tuple[int, str], tuple[int, str, int]] = {}
        self.history: list[int] = []  # every annotation there ever was
        self.events: Counter[str] = Counter()
        self.since_round = 0
        self.new_images(n)
        self.round_ends(n, seed)
        self.overlap_is_changed(overlap)

    def teardown(self) -> None:
        if not hasattr(self, "project") or sys.exc_info()[0]:
            # What a step has found is not hidden by what follows from it.
            return
        # The rows stay: history cannot be deleted, and each machine has a project of its own.
        self.everything_can_be_labelled()

    def everything_can_be_labelled(self) -> None:
        """Q-05: when all have gone, as many people as wanted can label all that is left."""
        self.tick(5000)
        for person in range(N_PEOPLE, N_PEOPLE + self.overlap):
            self.people.append(make_member(self.project))
            while leases := self.claim(person, "last", services.MAX_CLAIM):
                for lease in leases:
                    self.submit_with(lease, self.living_class(), 1)
        left = Image.objects.filter(project=self.project, status="open", deleted_at=None).count()
        assert left == 0, "Q-05: an image is stuck"

    def live(self, image: Picked) -> list[Held]:
        return [lease for lease in self.leases if lease.is_live and lease.image is image]

    def living_class(self, which: int = 0) -> int:
        return pick([pk for pk in self.classes if pk not in self.deleted_classes], which)

    def expire(self) -> None:
        for lease in self.leases:
            if lease.until <= self.now:
                lease.is_live = False

    def wants(self, image: Picked, person: int) -> bool:
        """Whether the image may be served to the person."""
        holders = {held.person for held in self.live(image)}
        busy = len(holders) + len(image.said)
        had = holders | image.skipped_by | set(image.said)
        return image.is_open and busy < self.overlap and person not in had

    def expire_of(self, image: Picked) -> None:
        for held in self.live(image):
            held.is_live = held.until > self.now

    def has_room(self, image: Picked, person: int, *, even_expired: bool = False) -> bool:
        """Whether the person can have the image beside those who hold it now."""
        holders = self.live(image)
        others = {held.person for held in holders if even_expired or held.until > self.now}
        others -= {person}
        return not others or len(others | set(image.said) - {person}) < self.overlap

    def best_free(self, person: int) -> list[int]:
        ranked = [self.images[pk] for pk in self.order]
        rest = [image for image in self.images.values() if image.pk not in self.order]
        rest.sort(key=lambda image: image.random_key)
        return [image.pk for image in ranked + rest if self.wants(image, person)]

    def note_lease(self, lease: Lease, person: int, tab: str) -> Held:
        image, until = self.images[lease.image_id], self.now + TTL
        held = Held(str(lease.token), image, person, tab, until, self.now, self.overlap)
        self.leases.append(held)
        return held

    # --- What people do ---------------------------------------------------------------------

    @rule(person=PEOPLE, tab=st.sampled_from("ab"), n=st.integers(1, 3))
    def claims(self, person: int, tab: str, n: int) -> None:
        self.claim(person, tab, n)

    @rule(n=st.integers(1, 2))
    def everybody_claims(self, n: int) -> None:
        for person in range(N_PEOPLE):
            self.claim(person, "a", n)

    @rule(person=PEOPLE, tab=st.sampled_from("ab"), n=st.integers(1, 3), n_kept=st.integers(0, 2))
    def follows_the_new_ranking(self, person: int, tab: str, n: int, n_kept: int) -> None:
        """As the page does: what is on the screen stays, the rest is given back and taken anew."""
        mine = [held.token for held in self.claim(person, tab, n)]
        self.claim(person, tab, n, fresh=True, keep=mine[:n_kept])

    def claim(self, person: int, tab: str, n: int, *, fresh=False, keep=()) -> list[Held]:
        got = services.claim(
            user=self.people[person],
            project=self.project,
            n=n,
            client=tab,
            now=self.now,
            fresh=fresh,
            keep=keep,
        ).leases
        self.expire()
        kept = []
        for lease in self.leases:
            if lease.is_live and (lease.person, lease.tab) == (person, tab):
                lease.is_live = lease.image.is_open and (not fresh or lease.token in keep)
                kept += [lease] if lease.is_live else []
        for lease in kept:
            lease.prolong(self.now)
        fresh = self.best_free(person)[: max(n - len(kept), 0)]
        assert [str(lease.token) for lease in got[: len(kept)]] == [k.token for k in kept], (
            "Q-05: a tab does not keep what it holds"
        )
        served = [lease.image_id for lease in got[len(kept) :]]
        for image in map(self.images.get, served):
            assert len(self.live(image)) < self.overlap, "Q-01: too many people, one image"
            assert person not in image.said, "Q-16: an image again that the person has labelled"
        assert not any(person in self.images[pk].skipped_by for pk in served), "Q-17: skipped"
        assert served == fresh, f"Q-14: served {served}, the best free images are {fresh}"
        return kept + [self.note_lease(lease, person, tab) for lease in got[len(kept) :]]

    @rule(person=PEOPLE, cls=CLASSES, dies=st.booleans())
    def labels(self, person: int, cls: int, dies: bool) -> None:
        """One image; the web process may die before its commit, and the page sends again."""
        for lease in self.claim(person, "a", 1)[:1]:
            if dies:
                with self.dying_at("annotator.events.services.record"):
                    self.post_label(lease, self.classes[cls], uuid.uuid4().hex)
                self.all_holds()
            self.submit_with(lease, self.classes[cls], 1)

    @rule(person=PEOPLE, other=PEOPLE, cls=CLASSES)
    def labels_what_somebody_else_had_for_too_long(self, person: int, other: int, cls: int) -> None:
        forgotten = self.claim(other, "b", 1)[:1]
        self.tick(601)
        self.labels(person, cls, dies=False)
        for lease in forgotten:
            self.submit_with(lease, self.classes[cls - 1], 1)

    @rule(person=PEOPLE, cls=CLASSES)
    def labels_and_undoes(self, person: int, cls: int) -> None:
        self.labels(person, cls, dies=False)
        if self.answers:
            self.undoes(0, "a")
            self.releases(0)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, cls=CLASSES, times=st.integers(1, 2))
    def submits(self, which: int, cls: int, times: int) -> None:
        """With any lease there ever was, so old tokens and late labels too."""
        self.submit_with(pick(self.leases, which), self.classes[cls], times)

    def submit_with(self, lease: Held, cls: int, times: int) -> None:
        image, key = lease.image, uuid.uuid4().hex
        is_late = lease.until <= self.now or not (
            lease.is_live or self.has_room(image, lease.person, even_expired=True)
        )
        answers = [self.post_label(lease, cls, key).answer for _ in range(times)]
        assert all(answer == answers[0] for answer in answers), "Q-03: another answer to one key"
        outcome, pk = answers[0]["outcome"], answers[0]["annotation"]
        if not image.is_alive or cls in self.deleted_classes:
            assert outcome == "orphaned", f"Q-11: {outcome}"
        elif image.has_enough and lease.person not in image.said:
            assert outcome == "second", f"Q-06: {outcome}"
        else:
            assert outcome == ("late" if is_late else "accepted"), f"Q-06: {outcome}"
        self.answers[lease.person, key] = (pk, lease.token, cls)
        self.history.append(pk)
        self.events["annotation.created"] += 1
        lease.is_live = False
        if outcome == "orphaned":
            image.keep(lease.person, cls)
        else:
            image.hear(lease.person)
            if lease.person not in image.said and outcome != "second":
                self.since_round += 1
                image.counts_for_round.add(lease.person)
            image.said[lease.person] = (pk, cls)
            self.end_leases_of(image, lease.person)

    def end_leases_of(self, image: Picked, person: int) -> None:
        for held in self.live(image):
            if held.person == person:
                held.is_live = False

    @rule(person=PEOPLE, which=ANY, cls=CLASSES)
    def labels_outside_the_queue(self, person: int, which: int, cls: int) -> None:
        """Any image: held by the person, by somebody else, by nobody, labelled or deleted."""
        image = pick(self.images.values(), which)
        lease = next((held for held in self.live(image) if held.person == person), None)
        try:
            label = services.label_image(
                user=self.people[person],
                project=self.project,
                image_id=image.pk,
                class_ids=[self.classes[cls]],
                now=self.now,
            )
        except services.ImageGoneError:
            assert not image.is_alive, "Q-11: a label is refused"
            return
        except labeling.InvalidClassesError:
            assert self.classes[cls] in self.deleted_classes, "Q-11: a label is refused"
            return
        assert image.is_alive, "Q-11: a deleted image was labelled"
        assert self.classes[cls] not in self.deleted_classes, "Q-11: a deleted class was given"
        if person in image.said:
            outcome = "accepted"
        elif image.has_enough:
            outcome = "second"
        elif lease:
            outcome = "late" if lease.until <= self.now else "accepted"
        else:
            has_room = self.has_room(image, person, even_expired=True)
            outcome = "accepted" if has_room else "late"
        assert label.outcome == outcome, f"Q-06: {label.outcome}"
        self.history.append(label.pk)
        self.events["annotation.created"] += 1
        image.hear(person)
        if person not in image.said and outcome != "second":
            self.since_round += 1
            image.counts_for_round.add(person)
        image.said[person] = (label.pk, self.classes[cls])
        self.end_leases_of(image, person)

    @rule(person=PEOPLE, cls=CLASSES)
    def labels_after_being_removed(self, person: int, cls: int) -> None:
        for lease in self.claim(person, "a", 1)[:1]:
            key = uuid.uuid4().hex
            answer = self.post_label(lease, self.classes[cls], key, was_removed=True).answer
            assert answer["outcome"] == "after_removal", f"Q-23: {answer['outcome']}"
            pk = answer["annotation"]
            self.answers[person, key] = (pk, lease.token, self.classes[cls])
            self.history.append(pk)
            self.events["annotation.created"] += 1
            lease.is_live = False

    def post_label(self, lease: Held, cls: int, key: str, **more) -> services.Submitted:
        return services.submit(
            user=self.people[lease.person],
            project=self.project,
            key=key,
            lease_token=lease.token,
            class_ids=[cls],
            now=self.now,
            **more,
        )

    @precondition(lambda self: self.answers)
    @rule(which=ANY)
    def repeats_an_old_request(self, which: int) -> None:
        (_, key), (pk, token, cls) = pick(self.answers.items(), which)
        lease = next(lease for lease in self.leases if lease.token == token)
        again = self.post_label(lease, cls, key)
        assert (again.replayed, again.answer["annotation"]) == (True, pk), "Q-03: a replay"
        with pytest.raises(services.KeyReusedError):
            self.post_label(lease, next(c for c in self.classes if c != cls), key)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def heartbeats(self, which: int) -> None:
        self.beat(pick(self.leases, which))

    @rule(person=PEOPLE)
    def leaves_a_page_open(self, person: int) -> None:
        for lease in self.claim(person, "a", 1)[:1]:
            for _ in range(HOLD_LEASES + 1):
                self.tick(599)
                self.beat(lease)

    def beat(self, lease: Held) -> None:
        try:
            services.heartbeat(
                user=self.people[lease.person],
                project=self.project,
                lease_token=lease.token,
                now=self.now,
            )
        except services.LeaseLostError:
            assert not lease.is_live or lease.until <= self.now, "Q-05: a live lease is lost"
        else:
            assert lease.is_live, "Q-05: a lease that is over beats"
            assert lease.until > self.now, "Q-05: a lease beats after its time"
            lease.prolong(self.now)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def releases(self, which: int) -> None:
        lease = pick(self.leases, which)
        services.release(
            user=self.people[lease.person], project=self.project, lease_token=lease.token
        )
        lease.is_live = False

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def skips(self, which: int) -> None:
        self.skip_with(pick(self.leases, which))

    @rule(person=PEOPLE, other=PEOPLE)
    def skips_what_was_held_too_long_and_takes_it_back(self, person: int, other: int) -> None:
        forgotten = self.claim(other, "b", 1)[:1]
        self.tick(601)
        self.claim(person, "a", 1)
        for lease in forgotten:
            self.skip_with(lease)
            self.take_skip_back(lease, "b")

    def skip_with(self, lease: Held) -> None:
        services.skip(
            user=self.people[lease.person],
            project=self.project,
            lease_token=lease.token,
            reason=Skip.Reason.UNSURE,
        )
        lease.is_live = False
        lease.image.skipped_by.add(lease.person)
        self.events["image.skipped"] += 1

    @precondition(lambda self: any(image.skipped_by for image in self.images.values()))
    @rule(person=PEOPLE)
    def takes_skips_back(self, person: int) -> None:
        n = services.unskip(user=self.people[person], project=self.project)
        back = [i for i in self.images.values() if person in i.skipped_by and not i.has_enough]
        assert n == len(back), "Q-17: another number of skips"
        for image in back:
            image.skipped_by.discard(person)
        self.events["skips.taken_back"] += n > 0

    @precondition(lambda self: self.leases)
    @rule(which=ANY, tab=st.sampled_from("ab"))
    def takes_one_skip_back(self, which: int, tab: str) -> None:
        skipped = [held for held in self.leases if held.person in held.image.skipped_by]
        self.take_skip_back(pick(self.leases + skipped, which), tab)

    def take_skip_back(self, asked: Held, tab: str) -> None:
        image, person = asked.image, asked.person
        can_be_back = (
            person in image.skipped_by
            and image.is_open
            and person not in image.said
            and self.has_room(image, person)
        )
        mine = [h.token for h in self.live(image) if h.person == person and h.until > self.now]
        try:
            lease = services.unskip_one(
                user=self.people[person],
                project=self.project,
                lease_token=asked.token,
                client=tab,
                now=self.now,
            )
        except services.UnskipRefusedError:
            assert not can_be_back, "Q-17: a skip is not taken back"
            assert person in image.skipped_by or not mine, "Q-17: a repeated request is refused"
            return
        if person not in image.skipped_by:
            assert str(lease.token) in mine, "Q-17: what was not skipped is given"
            return
        assert can_be_back, "Q-01: a skip taken back gives an image nobody may have"
        self.expire_of(image)
        self.end_leases_of(image, person)
        image.skipped_by.discard(person)
        self.note_lease(lease, person, tab)
        self.events["skips.taken_back"] += 1

    @precondition(lambda self: self.answers)
    @rule(which=ANY, tab=st.sampled_from("ab"))
    def undoes(self, which: int, tab: str) -> None:
        (person, _), (pk, token, _) = pick(self.answers.items(), which)
        image = next(lease.image for lease in self.leases if lease.token == token)
        stands = image.said.get(person, (0, 0))[0] == pk
        has_room = self.has_room(image, person)
        try:
            lease = services.undo(
                user=self.people[person],
                project=self.project,
                annotation_id=pk,
                client=tab,
                now=self.now,
            )
        except services.UndoRefusedError:
            assert not (stands and has_room and image.is_alive), "Q-18: an undo is refused"
            return
        known = next((held for held in self.leases if held.token == str(lease.token)), None)
        if known:
            assert known.is_live, "Q-18: a repeated undo gives a lease that is over"
            return
        assert stands, "Q-18: a label is taken back twice"
        assert has_room, "Q-01: an undo gives an image that others hold"
        self.expire_of(image)
        self.end_leases_of(image, person)
        self.withdraw(image, person)
        self.since_round = max(self.since_round - (not image.has_enough), 0)
        self.note_lease(lease, person, tab)
        self.events["annotation.withdrawn"] += 1

    def withdraw(self, image: Picked, person: int) -> None:
        former, _ = image.said.pop(person)
        self.history.append(Annotation.objects.get(replaces=former).pk)

    # --- What leads, rounds and the world do --------------------------------------------------

    @precondition(lambda self: any(image.said for image in self.images.values()))
    @rule(which=ANY, cls=CLASSES, reviewer=PEOPLE)
    def edits(self, which: int, cls: int, reviewer: int) -> None:
        said = [(i, person) for i in self.images.values() for person in i.said]
        image, person = pick(said, which)
        former, before = image.said[person]
        try:
            edited = services.edit(
                annotation=Annotation.objects.get(pk=former),
                actor=self.people[reviewer],
                class_ids=[self.classes[cls]],
            )
        except labeling.InvalidClassesError:
            assert self.classes[cls] in self.deleted_classes, "Q-08: an edit is refused"
            return
        assert self.classes[cls] not in self.deleted_classes, "Q-11: a deleted class was given"
        image.said[person] = (edited.pk, self.classes[cls])
        image.hear(person)
        self.history.append(edited.pk)
        self.since_round += 1
        self.events["annotation.edited"] += 1
        with pytest.raises(labeling.StaleAnnotationError) as stale:
            services.edit(
                annotation=Annotation.objects.get(pk=former),
                actor=self.lead,
                class_ids=[before],
            )
        assert stale.value.current == edited, "Q-08: the newer label is not named"

    @precondition(lambda self: len(self.deleted_classes) < 2)
    @rule(which=ANY)
    def class_is_deleted(self, which: int) -> None:
        said = [cls for image in self.images.values() for _, cls in image.said.values()]
        self.delete_class(pick(said, which) if said else self.living_class(which))

    @precondition(lambda self: len(self.deleted_classes) < 2)
    @rule(which=ANY)
    def class_on_which_all_agree_is_deleted_by_mistake(self, which: int) -> None:
        cls = self.living_class(which)
        for person in range(N_PEOPLE):
            self.labels(person, self.classes.index(cls), dies=False)
        self.delete_class(cls)
        self.all_holds()
        self.restore_class(cls)

    def delete_class(self, cls: int) -> None:
        labeling.delete_class(
            label_class=self.project.classes.get(pk=cls), actor=self.lead, now=self.now
        )
        self.deleted_classes.add(cls)
        n_counted = 0
        for image in self.images.values():
            before = min(len(image.said), self.overlap)
            for person in [p for p, (_, said) in image.said.items() if said == cls]:
                self.withdraw(image, person)
                image.keep(person, cls)
            lost = max(before - len(image.said), 0) if image.is_alive else 0
            n_counted += min(lost, len(image.counts_for_round))
        self.since_round = max(self.since_round - n_counted, 0)
        self.events["class.deleted"] += 1

    @precondition(lambda self: sum(image.is_open for image in self.images.values()) > 1)
    @rule(which=ANY)
    def image_is_deleted(self, which: int) -> None:
        image = pick(self.images.values(), which)
        labeling.delete_image(image=Image.objects.get(pk=image.pk), actor=self.lead, now=self.now)
        self.events["image.deleted"] += image.is_alive
        image.is_alive = False

    @precondition(lambda self: self.deleted_classes)
    @rule(which=ANY)
    def class_comes_back(self, which: int) -> None:
        self.restore_class(pick(sorted(self.deleted_classes), which))

    def restore_class(self, cls: int) -> None:
        n = restoring.restore_class(label_class=self.project.classes.get(pk=cls), actor=self.lead)
        self.deleted_classes.discard(cls)
        self.events["class.restored"] += 1
        named = [i for i in self.images.values() if cls in {kept.cls for kept in i.kept}]
        assert n == sum(self.recall(image) for image in named), "Q-11: other labels came back"

    @precondition(lambda self: any(not image.is_alive for image in self.images.values()))
    @rule(which=ANY)
    def image_comes_back(self, which: int) -> None:
        image = pick([image for image in self.images.values() if not image.is_alive], which)
        n = restoring.restore_image(image=Image.objects.get(pk=image.pk), actor=self.lead)
        image.is_alive = True
        self.events["image.restored"] += 1
        assert n == self.recall(image), "Q-11: other labels came back"

    def recall(self, image: Picked) -> int:
        """Kept labels of living classes count again where the image still wants people."""
        living = [kept for kept in image.kept if kept.cls not in self.deleted_classes]
        back = [kept for kept in living if image.comes_back(kept)] if image.is_open else []
        before = min(len(image.said), self.overlap)
        for kept in back:
            author = self.people[kept.person]
            again = Annotation.objects.get(image=image.pk, author=author, is_current=True)
            if again.outcome != "second":
                image.counts_for_round.add(kept.person)
            self.history.append(again.pk)
            image.kept.remove(kept)
            image.said[kept.person] = (again.pk, kept.cls)
            self.end_leases_of(image, kept.person)
        for kept in back:
            image.hear(kept.person)
        self.since_round += min(len(image.said), self.overlap) - before
        return len(back)

    @precondition(lambda self: len(self.images) < 8)
    @rule(n=st.integers(1, 2))
    def new_images(self, n: int) -> None:
        for _ in range(n):
            image = self.upload()
            # The same at each replay of a failure, and in another order than they came.
            random_key = (len(self.images) + 1) * 7919 % 101
            Image.objects.filter(pk=image.pk).update(random_key=random_key)
            self.images[image.pk] = Picked(image.pk, random_key, self.overlap)

    def upload(self) -> Image:
        number = next(_colours)
        colour = (number % 256, number // 256 % 256, number // 65536)
        Picture.new("RGB", (8, 8), colour).save(content := io.BytesIO(), "PNG")
        result = ingest.add_image(
            project=self.project,
            file=[content.getvalue()],
            file_name=f"{number}.png",
            user=self.lead,
        )
        assert result.image, result
        return result.image

    @rule(keep=st.integers(0, 8), seed=SEEDS)
    def round_ends(self, keep: int, seed) -> None:
        """With a ranking of some of the open images; the others follow unranked."""
        order = self.some_order(keep, seed)
        rerank(self.project, order)
        self.order, self.since_round = order, 0
        for image in self.images.values():
            image.counts_for_round.clear()

    def some_order(self, keep: int, seed) -> list[int]:
        order = sorted(image.pk for image in self.images.values() if image.is_open)
        seed.shuffle(order)
        return order[:keep]

    @rule(overlap=OVERLAPS)
    def overlap_is_changed(self, overlap: int) -> None:
        """What is held stays held; images want more people at once, or have enough."""
        services.change_settings(
            project=self.project, actor=self.lead, changes={"annotators_per_image": overlap}
        )
        self.events["queue.settings_changed"] += overlap != self.overlap
        self.overlap = overlap
        for image in self.images.values():
            image.wanted = overlap

    @rule(seconds=st.sampled_from([1, 599, 601, 5000]))
    def tick(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # --- What dies before its transaction commits leaves nothing ------------------------------

    @rule(keep=st.integers(1, 8), seed=SEEDS)
    def worker_dies_at_the_flip(self, keep: int, seed) -> None:
        with self.dying_at("workqueue.rounds._flip"):
            rerank(self.project, self.some_order(keep, seed))

    @contextmanager
    def dying_at(self, place: str):
        """Drop the connection where the place is called, as a killed process does."""

        def die(*_, **__):
            connection.close()
            raise CrashedError

        try:
            with mock.patch(place, die):
                yield
        except CrashedError:
            return
        raise AssertionError(f"{place} was not reached")

    # --- What must be true after every step ---------------------------------------------------

    @invariant()
    def all_holds(self) -> None:
        self.an_image_is_with_as_many_people_as_wanted()
        self.each_label_is_another_persons()
        self.every_answer_is_kept_once()
        self.the_history_tells_what_stands()
        self.no_image_vanishes()
        self.counters_are_right()

    def an_image_is_with_as_many_people_as_wanted(self) -> None:
        live = Lease.objects.filter(project=self.project, state="live", expires_at__gt=self.now)
        holders = Counter(live.values_list("image_id", flat=True))
        for pk, n in holders.items():
            # Those who had it before fewer were wanted may go on.
            wanted = max(held.wanted for held in self.live(self.images[pk]))
            assert n <= wanted, f"Q-01: image {pk} is held too often"
        stored = Lease.objects.filter(project=self.project, state="live")
        assert dict(stored.values_list("token", "expires_at")) == {
            uuid.UUID(lease.token): lease.until for lease in self.leases if lease.is_live
        }, "Q-05: other leases are live"

    def each_label_is_another_persons(self) -> None:
        answered = Lease.objects.filter(project=self.project, state="submitted")
        assert sorted(answered.values_list("image", "user")) == sorted(
            (image.pk, self.people[person].pk)
            for image in self.images.values()
            for person in image.said
        ), "Q-16: who has labelled what"
        for image in self.images.values():
            again = {held.person for held in self.live(image)} & set(image.said)
            assert not again, "Q-16: somebody holds what they have labelled"

    def every_answer_is_kept_once(self) -> None:
        stored = Submission.objects.filter(annotation__image__project=self.project)
        assert {
            (user, key): pk for user, key, pk in stored.values_list("user", "key", "annotation")
        } == {
            (self.people[person].pk, key): pk for (person, key), (pk, _, _) in self.answers.items()
        }, "Q-03: other answers are stored"
        assert len({pk for pk, _, _ in self.answers.values()}) == len(self.answers), (
            "Q-03: one label for two keys"
        )

    def the_history_tells_what_stands(self) -> None:
        rows = list(Annotation.objects.filter(image__project=self.project).order_by("pk"))
        assert [row.pk for row in rows] == sorted(self.history), "Q-07: the history is another"
        replaced = {row.replaces_id for row in rows}
        stands = {
            row.pk
            for row in rows
            if row.pk not in replaced
            and row.action != Annotation.Action.WITHDRAW
            and row.outcome not in labeling.UNUSED
        }
        assert stands == {row.pk for row in rows if row.is_current}, "Q-07: replayed, another state"
        regions = AnnotationRegion.objects.filter(annotation__in=stands)
        assert set(
            regions.values_list(
                "annotation__image", "annotation__author", "annotation", "label_class"
            )
        ) == {
            (image.pk, self.people[person].pk, pk, cls)
            for image in self.images.values()
            for person, (pk, cls) in image.said.items()
        }, "Q-06: other labels stand"
        events = Event.objects.filter(project=self.project, kind__in=list(self.events))
        assert Counter(events.values_list("kind", flat=True)) == +self.events, (
            "Q-07: a change without its event"
        )

    def no_image_vanishes(self) -> None:
        stored = Image.objects.filter(project=self.project)
        assert {
            (pk, status == "open", gone is None)
            for pk, status, gone in stored.values_list("pk", "status", "deleted_at")
        } == {(i.pk, not i.has_enough, i.is_alive) for i in self.images.values()}, (
            "Q-14: other images are open"
        )
        ranking = state_of(self.project).ranking_id
        ranked = RankedImage.objects.filter(ranking=ranking).order_by("position")
        assert list(ranked.values_list("image", flat=True)) == self.order, "Q-14: another order"
        hidden = ranked.filter(is_done=True).values_list("image", flat=True)
        assert not any(self.images[pk].is_open for pk in hidden), "Q-14: an open image is hidden"

    def counters_are_right(self) -> None:
        alive = [image for image in self.images.values() if image.is_alive]
        project = Project.objects.get(pk=self.project.pk)
        assert (project.n_images, project.n_labelled, project.n_labels) == (
            len(alive),
            sum(image.has_enough for image in alive),
            sum(len(image.said) for image in alive),
        ), "Q-19: the project's counters"
        assert not project.is_settling, "Q-19: images wait to be counted"
        counted = state_of(self.project).labels_since_round
        assert counted == self.since_round, f"Q-19: {counted} labels, not {self.since_round}"
