import itertools
import random
import threading
import time
import uuid
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from factories import HOUR, class_of, make_images, make_member, make_project, make_ranking, now
from load_kit import (
    asked_again,
    drain,
    in_parallel,
    in_processes,
    what_is_wrong,
    what_is_wrong_with_overlap,
)
from ranking_kit import rerank

from annotator.accounts import services as accounts
from annotator.accounts.models import Membership, Role
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image
from workqueue import rounds, services
from workqueue.models import Lease, QueueSettings, RankedImage, Round, Submission
from workqueue.requests import request_round, settings_of, state_of
from workqueue.services import leases
from workqueue.services.transactions import retried_on_collision

pytestmark = pytest.mark.django_db(transaction=True)

N_CLIENTS = 16


@pytest.fixture
def make_load():
    """Return a project with a shuffled ranking, its order, and people to label it."""

    def make(n_images, n_people=N_CLIENTS):
        project = make_project()
        settings_of(project)
        QueueSettings.objects.update(batch_size=10_000)
        images = make_images(project, n_images)
        random.Random(7).shuffle(images)
        make_ranking(project, images)
        people = [make_member(project) for _ in range(n_people)]
        return project, [image.pk for image in images], people

    return make


def labelled_once(project, order):
    labels = Annotation.objects.filter(image__project=project, is_current=True)
    project.refresh_from_db()
    assert sorted(labels.values_list("image", flat=True)) == sorted(order)
    assert project.n_labelled == len(order)
    assert not Lease.objects.filter(project=project, state=Lease.State.LIVE).exists()


@pytest.mark.parametrize("n_images", [240, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_sixteen_people_drain_a_project_in_rank_order_without_doubles_or_losses(
    make_load, n_images
):
    project, order, people = make_load(n_images)
    clients = [partial(drain, person, project, class_of(project).pk) for person in people]

    history = in_processes(clients[:8], clients[8:])

    assert what_is_wrong(history, order, in_flight=N_CLIENTS) == []
    labelled_once(project, order)


def change_overlap(project, n):
    services.change_settings(
        project=project, actor=project.created_by, changes={"annotators_per_image": n}
    )


@pytest.mark.timeout(600)
def test_sixteen_people_give_each_image_three_labels_of_different_people_in_rank_order(make_load):
    project, order, people = make_load(120)
    change_overlap(project, 3)
    clients = [partial(drain, person, project, class_of(project).pk) for person in people]

    history = in_processes(clients[:8], clients[8:])

    assert what_is_wrong_with_overlap(history, order, 3) == []
    said = Annotation.objects.filter(image__project=project, is_current=True)
    authors = Counter(said.values_list("image", "author"))
    assert set(authors.values()) == {1}
    assert Counter(image for image, _ in authors) == dict.fromkeys(order, 3)
    project.refresh_from_db()
    assert (project.n_labelled, project.n_labels) == (120, 360)


def test_a_claim_that_does_not_see_whom_it_meets_fails_the_same_check(make_load):
    project, order, people = make_load(20)
    change_overlap(project, 3)
    slots = itertools.count()

    def naive_claim(*, user, project, n, now):
        mine = Annotation.objects.filter(author=user, is_current=True).values("image")
        held = Lease.objects.filter(state=Lease.State.LIVE)
        full = [
            image
            for image, taken in Counter(held.values_list("image", flat=True)).items()
            if taken >= 3
        ]
        ranked = RankedImage.objects.filter(image__status=Image.Status.OPEN).order_by("position")
        best = ranked.exclude(image__in=mine).exclude(image__in=full).first()
        if best is None:
            return SimpleNamespace(leases=[])
        lease = Lease(image=best.image, project=project, user=user, slot=next(slots))
        lease.granted_at, lease.expires_at = now, now + HOUR
        time.sleep(0.01)  # on an idle machine nobody else would come between
        lease.save()
        return SimpleNamespace(leases=[lease])

    clients = [
        partial(drain, person, project, class_of(project).pk, naive_claim) for person in people
    ]
    history = [entry for served in in_parallel(*clients) for entry in served]

    assert any("was served to" in line for line in what_is_wrong_with_overlap(history, order, 3))


@pytest.mark.timeout(600)
def test_people_who_drain_the_queue_and_programs_that_label_beside_it_disturb_nobody(make_load):
    project, order, people = make_load(60, n_people=6)
    change_overlap(project, 2)
    cls = class_of(project).pk

    def label_beside(person, seed):
        for pk in random.Random(seed).sample(order, 40):
            label = partial(services.label_image, user=person, project=project, image_id=pk)
            asked_again(partial(label, class_ids=[cls], now=now()))

    # Three people label by hand only, two by both at once, one by a program only.
    in_parallel(
        *(partial(drain, person, project, cls) for person in people[:5]),
        *(partial(label_beside, person, seed) for seed, person in enumerate(people[3:])),
    )

    said = Annotation.objects.filter(image__project=project, is_current=True)
    authors = Counter(said.values_list("image", "author"))
    assert set(authors.values()) == {1}
    assert min(Counter(image for image, _ in authors).values()) >= 2
    project.refresh_from_db()
    assert (project.n_labelled, project.n_labels) == (60, len(authors))
    leases = Lease.objects.filter(project=project, state__in=["live", "submitted"])
    assert Counter(leases.values_list("image", "user")) == authors
    assert not leases.filter(state="live").exists()


@pytest.mark.timeout(600)
def test_the_overlap_is_changed_again_and_again_while_people_label(make_load):
    project, order, people = make_load(60, n_people=8)
    over = threading.Event()

    def change():
        for n in itertools.cycle([3, 1, 2, 5, 1]):
            change_overlap(project, n)
            if over.wait(0.05):
                break
        change_overlap(project, 3)
        connection.close()

    def label():
        try:
            return in_parallel(
                *[partial(drain, person, project, class_of(project).pk) for person in people]
            )
        finally:
            over.set()

    _, served = in_parallel(change, label)
    served += in_parallel(
        *[partial(drain, person, project, class_of(project).pk) for person in people]
    )

    given = Counter((entry.image, entry.person) for history in served for entry in history)
    assert set(given.values()) == {1}
    assert min(Counter(image for image, _ in given).values()) >= 3
    project.refresh_from_db()
    assert (project.n_labelled, project.n_labels) == (len(order), given.total())
    assert not project.is_settling
    assert not Lease.objects.filter(project=project, state=Lease.State.LIVE).exists()


def test_sixteen_people_who_claim_many_at_once_get_other_images_and_no_deadlock(make_load):
    project, order, people = make_load(300)
    rerank(project, order[:150])  # the others are served as they come

    def claim_in_four_tabs(person):
        ask = partial(services.claim, user=person, project=project, n=20, now=now())
        return [lease.image_id for tab in "abcd" for lease in ask(client=tab).leases]

    given = in_parallel(*[partial(claim_in_four_tabs, person) for person in people])

    assert sorted(image for images in given for image in images) == sorted(order)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite lets one claim in at a time")
def test_a_claim_whose_choice_others_lease_again_and_again_still_gives_an_image(
    make_load, monkeypatch
):
    project, order, (person, faster) = make_load(4, n_people=2)
    with transaction.atomic():
        # What a query that began before the other claim's commit still sees.
        settings, state = settings_of(project), state_of(project)
        chosen_before = leases._best_free(settings, state, person, 1)
    services.claim(user=faster, project=project, n=1, now=now())
    real, stale = leases._best_free, [chosen_before] * 10
    monkeypatch.setattr(leases, "_best_free", lambda *a: stale.pop() if stale else real(*a))

    given = services.claim(user=person, project=project, n=1, now=now()).leases

    assert [lease.image_id for lease in given] == order[1:2]


def test_a_ranking_that_is_being_written_hides_no_image(make_load):
    project, order, (person,) = make_load(4, n_people=1)
    rerank(project, [])
    written, claimed = threading.Event(), threading.Event()

    def write():
        with transaction.atomic():
            make_ranking(project, list(Image.objects.filter(pk__in=order)))
            connection.check_constraints()  # as the commit does
            written.set()
            claimed.wait(1)

    def claim():
        written.wait()
        leases = services.claim(user=person, project=project, n=4, now=now()).leases
        claimed.set()
        return {lease.image_id for lease in leases}

    _, served = in_parallel(write, claim)

    assert served == set(order)


def test_a_claim_that_reads_first_and_writes_then_fails_the_same_check(make_load):
    project, order, people = make_load(60)
    slots = itertools.count()

    def naive_claim(*, user, project, n, now):
        ranked = RankedImage.objects.filter(image__status=Image.Status.OPEN).order_by("position")
        held = Lease.objects.filter(state=Lease.State.LIVE).values("image")
        best = ranked.exclude(image__in=held).first()
        if best is None:
            return SimpleNamespace(leases=[])
        lease = Lease(image=best.image, project=project, user=user, slot=next(slots))
        lease.granted_at, lease.expires_at = now, now + HOUR
        time.sleep(0.01)  # on an idle machine nobody else would come between
        lease.save()
        return SimpleNamespace(leases=[lease])

    clients = [
        partial(drain, person, project, class_of(project).pk, naive_claim) for person in people
    ]
    history = [entry for served in in_parallel(*clients) for entry in served]

    assert any("was served" in line for line in what_is_wrong(history, order, in_flight=16))


def test_the_same_submit_twenty_times_at_once_is_one_label_with_one_answer(make_load):
    project, _, (person,) = make_load(1, n_people=1)
    (lease,) = services.claim(user=person, project=project, n=1, now=now()).leases
    send = partial(
        services.submit,
        user=person,
        project=project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(project).pk],
        now=now(),
    )

    given = in_parallel(*[send] * 20)

    assert all(one.answer == given[0].answer for one in given)
    assert Counter(one.replayed for one in given) == {False: 1, True: 19}
    assert Annotation.objects.count() == Submission.objects.count() == 1
    assert state_of(project).labels_since_round == 1


def test_a_late_label_and_the_next_persons_label_at_the_same_instant_are_both_kept(make_load):
    n = 12
    project, order, (first, second) = make_load(n, n_people=2)
    cat, dog = class_of(project).pk, class_of(project, "dog").pk
    long_ago = now() - HOUR
    late = services.claim(user=first, project=project, n=n, now=long_ago).leases
    fresh = services.claim(user=second, project=project, n=n, now=now()).leases
    assert [lease.image_id for lease in late] == [lease.image_id for lease in fresh] == order

    def send(user, lease, cls):
        return services.submit(
            user=user,
            project=project,
            key=uuid.uuid4().hex,
            lease_token=str(lease.token),
            class_ids=[cls],
            now=now(),
        ).answer["outcome"]

    outcomes = [
        set(in_parallel(partial(send, first, a, cat), partial(send, second, b, dog)))
        for a, b in zip(late, fresh, strict=True)
    ]

    assert all("second" in pair and pair & {"late", "accepted"} for pair in outcomes)
    assert Annotation.objects.filter(is_current=True).count() == 2 * n
    project.refresh_from_db()
    assert project.n_labelled == n


def test_new_rankings_without_end_lose_no_image_and_serve_none_twice(make_load):
    project, order, people = make_load(160, n_people=8)
    over = threading.Event()

    def rank_again():
        seed, n_rankings = random.Random(1), 0
        while not over.is_set():
            pool = list(Image.objects.filter(project=project, status="open").values_list("pk"))
            seed.shuffle(pool)
            rerank(project, [pk for (pk,) in pool])
            n_rankings += 1
        connection.close()
        return n_rankings

    def label():
        try:
            return in_parallel(
                *[partial(drain, person, project, class_of(project).pk) for person in people]
            )
        finally:
            over.set()

    n_rankings, served = in_parallel(rank_again, label)

    history = [entry for one in served for entry in one]
    assert n_rankings > 2
    assert sorted(entry.image for entry in history) == sorted(order)
    labelled_once(project, order)


def test_a_round_that_ends_and_asks_for_the_next_does_not_deadlock_with_a_label(make_load):
    project, _, (person,) = make_load(1, n_people=1)
    (lease,) = services.claim(user=person, project=project, n=1, now=now()).leases
    flipped = threading.Event()

    def end_round():
        with transaction.atomic():
            seen = state_of(project)
            rounds._flip(project, seen.ranking, None, seen)
            flipped.set()
            time.sleep(0.5)
            return request_round(project=project, trigger=Round.Trigger.BATCH)

    def label():
        flipped.wait()
        return services.submit(
            user=person,
            project=project,
            key="one",
            lease_token=str(lease.token),
            class_ids=[class_of(project).pk],
            now=now(),
        )

    next_round, submitted = in_parallel(end_round, label)

    assert next_round.state == Round.State.QUEUED
    assert submitted.answer["outcome"] == "accepted"


def test_two_leads_who_remove_each_other_leave_one():
    project = make_project()
    first, second = project.created_by, make_member(project, Role.LEAD)

    def remove(user, actor):
        try:
            accounts.remove_member(project_id=project.pk, user=user, actor=actor)
        except accounts.LastLeadError:
            return "refused"
        return "removed"

    answers = in_parallel(lambda: remove(first, second), lambda: remove(second, first))

    assert sorted(answers) == ["refused", "removed"]
    assert Membership.objects.filter(project=project, role=Role.LEAD).count() == 1


def test_a_project_is_archived_while_people_label_and_nobody_waits_for_ever():
    project = make_project()
    make_images(project, 60)
    people = [make_member(project) for _ in range(4)]

    def label(user):
        n = 0
        for _ in range(10):
            for lease in services.claim(user=user, project=project, n=1, now=now()).leases:
                services.submit(
                    user=user, project=project, key=uuid.uuid4().hex, now=now(),
                    lease_token=str(lease.token), class_ids=[class_of(project).pk],
                )  # fmt: skip
                n += 1
        return n

    def archive():
        time.sleep(0.2)
        labeling.delete_project(project=project, actor=project.created_by, now=now())

    *counts, _ = in_parallel(*[lambda user=user: label(user) for user in people], archive)

    assert Annotation.objects.filter(image__project=project).count() == sum(counts)
    assert not Lease.objects.filter(project=project, state="live", user=project.created_by).exists()


def test_the_leases_of_a_project_are_ended_before_its_row_is_held():
    """In the order in which everybody takes them who labels, or they would wait for each other."""
    project = make_project()
    with CaptureQueriesContext(connection) as asked:
        labeling.delete_project(project=project, actor=project.created_by, now=now())

    changes = [query["sql"].split()[1] for query in asked if query["sql"].startswith("UPDATE")]
    assert changes.index('"workqueue_lease"') < changes.index('"labeling_project"')


def test_who_was_ended_for_a_deadlock_tries_again_and_other_errors_are_told():
    class DeadlockError(Exception):
        sqlstate = "40P01"

    tries = []

    @retried_on_collision
    def collides(cause):
        tries.append(cause)
        if len(tries) < 3:
            raise OperationalError("deadlock detected") from cause
        return "done"

    assert collides(DeadlockError()) == "done"
    tries.clear()
    with pytest.raises(OperationalError):
        collides(ConnectionError())
    assert len(tries) == 1
