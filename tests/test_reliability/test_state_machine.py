import itertools
import uuid
from collections import Counter
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from django.db.models import Q, Value
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test
from queue_machine import QueueMachine, quick

from annotator.events import services as events
from annotator.labeling import hooks, restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation
from workqueue import overlap, rankings, services
from workqueue.models import Lease
from workqueue.services import labels, leases

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.timeout(600)
def test_whatever_people_do_the_queue_keeps_its_promises():
    run_state_machine_as_test(QueueMachine, settings=quick())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_people_do_for_long_the_queue_keeps_its_promises():
    run_state_machine_as_test(
        QueueMachine,
        settings=quick(max_examples=60, stateful_step_count=50, derandomize=False),
    )


# --- Planted faults: what the machine would not notice it does not test ------------------------


def nothing(*_, **__):
    return Q(pk__in=[])


def in_the_query(patch, name, fault):
    """Plant a fault in what the claim's query is made of, which is built anew for it."""
    patch.setattr(leases, name, fault)
    patch.setattr(leases, "_ranked_free_for", cache(leases._ranked_free_for.__wrapped__))


class Like:
    """A model of which some attributes are replaced."""

    def __init__(self, model, make=None, **replaced):
        self._model, self._make, self._replaced = model, make or model, replaced

    def __call__(self, **fields):
        return self._make(**fields)

    def __getattr__(self, name):
        return self._replaced.get(name) or getattr(self._model, name)


def a_claim_takes_what_somebody_holds(patch):
    slots = itertools.count(1)
    in_the_query(patch, "_leased", nothing)
    # On PostgreSQL the second look would go on for ever.
    patch.setattr(leases, "_surely_free", lambda project, choose: choose())
    make = lambda **fields: Lease(**fields | {"slot": next(slots)})  # noqa: E731
    patch.setattr(leases, "Lease", Like(Lease, make))


def a_claim_ends_what_somebody_holds(patch):
    claim = services.claim

    def steal(*, user, project, **more):
        live = Lease.objects.filter(project=project, state="live").exclude(user=user)
        live.update(state="expired")
        return claim(user=user, project=project, **more)

    patch.setattr(services, "claim", steal)


def a_lease_never_ends(patch):
    patch.setattr(leases, "_EXPIRE", SimpleNamespace(run=lambda **_: 0))


def a_repeated_request_is_a_new_one(patch):
    insert = labels.insert

    def insert_under_another_key(row):
        row.key = uuid.uuid4().hex
        return insert(row)

    patch.setattr(labels, "insert", insert_under_another_key)
    patch.setattr(labels, "_KNOWN", SimpleNamespace(first=lambda **_: None))


def after_a_late_label(patch, then):
    record = labeling.record_annotation

    def record_and(*, is_late, **more):
        recorded = record(is_late=is_late, **more)
        if is_late:
            then(recorded.annotation)
        return recorded

    patch.setattr(labeling, "record_annotation", record_and)


def a_late_label_is_dropped(patch):
    current = Annotation.objects
    after_a_late_label(patch, lambda late: current.filter(pk=late.pk).update(is_current=False))


def a_late_label_replaces_anothers(patch):
    after_a_late_label(
        patch,
        lambda late: (
            Annotation.objects.filter(image=late.image).exclude(pk=late.pk).update(is_current=False)
        ),
    )


def half_a_label_survives_a_crash(patch):
    patch.setattr(services, "submit", services.submit.__wrapped__)


def a_new_ranking_forgets_what_is_held(patch):
    insert = rankings._insert

    def insert_free(rows):
        held = set(Lease.objects.filter(state="live").values_list("image_id", flat=True))
        insert([row for row in rows if row[2] not in held])

    patch.setattr(rankings, "_insert", insert_free)


def the_worst_image_is_served_first(patch):
    in_the_query(patch, "_skip_locked", lambda rows, _: rows.reverse())


def an_undone_image_loses_its_place(patch):
    set_done = labels._set_done
    patch.setattr(
        labels, "_set_done", lambda *args, done: set_done(*args, done=True) if done else None
    )


def images_of_a_deleted_class_are_not_served_again(patch):
    patch.setattr(hooks, "labels_withdrawn", lambda *_: None)


def labels_stay_away_when_their_class_is_back(patch):
    patch.setattr(restoring, "_recallable", lambda *_, **__: [])


def what_others_said_since_keeps_a_label_away(patch):
    recallable = restoring._recallable
    patch.setattr(restoring, "_recallable", lambda *args, **_: recallable(*args, is_shared=False))


def an_image_that_has_labels_back_counts_as_one(patch):
    tell = hooks.labels_recalled
    patch.setattr(
        hooks,
        "labels_recalled",
        lambda project_id, recalled: tell(
            project_id, [replace(back, n_counted=1) for back in recalled]
        ),
    )


def who_has_their_label_back_still_holds_the_image(patch):
    patch.setattr(labels, "_answered_again", lambda _: None)


def a_label_counts_though_its_author_was_removed(patch):
    record = labeling.record_annotation
    patch.setattr(
        labeling, "record_annotation", lambda *, was_removed=False, **more: record(**more)
    )


def a_heartbeat_holds_an_image_for_ever(patch):
    patch.setattr(leases, "_end", lambda lease, settings, now: now + settings.lease_length)


def a_skipped_image_comes_back(patch):
    in_the_query(patch, "_skipped", nothing)


def a_skip_is_taken_back_from_under_somebody(patch):
    unskip_one = services.unskip_one

    def steal(*, user, lease_token, **more):
        image = Lease.objects.get(token=lease_token).image
        others = Lease.objects.filter(image=image, state="live").exclude(user=user)
        others.update(state="released")
        return unskip_one(user=user, lease_token=lease_token, **more)

    patch.setattr(services, "unskip_one", steal)


def my_other_tab_is_somebody_else(patch):
    unskip_one = services.unskip_one

    def refuse(*, user, lease_token, **more):
        image = Lease.objects.get(token=lease_token).image
        if Lease.objects.filter(image=image, user=user, state="live").exists():
            raise services.UnskipRefusedError("Somebody else has it.")
        return unskip_one(user=user, lease_token=lease_token, **more)

    patch.setattr(services, "unskip_one", refuse)


def what_is_kept_is_given_back_too(patch):
    claim = services.claim
    patch.setattr(services, "claim", lambda *, keep=(), **more: claim(**more))


def a_label_is_not_counted(patch):
    patch.setattr(labeling, "_count", lambda *_, **__: None)


def a_person_is_given_what_they_have_labelled(patch):
    in_the_query(patch, "_had", nothing)


def an_image_is_given_to_more_people_than_wanted(patch):
    in_the_query(patch, "_n_taken", lambda _: Value(0))


def only_one_label_of_an_image_counts(patch):
    follow = labeling.follow_labels
    patch.setattr(
        labeling,
        "follow_labels",
        lambda project, images, n_labels, **more: follow(
            project, images, Counter({pk: min(n, 1) for pk, n in n_labels.items()}), **more
        ),
    )


def images_do_not_follow_a_change_of_the_overlap(patch):
    patch.setattr(overlap, "settle", lambda *_: None)


def who_lost_a_label_with_its_class_cannot_give_another(patch):
    patch.setattr(labels, "_end_submitted", lambda _: None)


def who_labels_outside_the_queue_can_be_given_the_image(patch):
    patch.setattr(labels, "_lease_of_direct", lambda *_: Lease())


def an_undo_counts_everybody_who_holds_the_image(patch):
    patch.setattr(labels, "has_room_beside", lambda image, user_id: not others(image, user_id))


def others(image, user_id):
    return Lease.objects.filter(image=image, state="live").exclude(user=user_id).exists()


def a_withdrawal_is_not_told(patch):
    record = events.record
    patch.setattr(
        events,
        "record",
        lambda *, kind, **more: record(kind=kind, **more) if "withdrawn" not in kind else None,
    )


# What breaks, or the constraint of the database that is faster.
FAULTS = {
    a_claim_takes_what_somebody_holds: "Q-01|one_live_lease|an_image_once|workqueue_lease",
    # The end of the machine, which is run after a failure too, may find what comes of it first.
    a_repeated_request_is_a_new_one: "Q-03|Q-14",
    a_late_label_replaces_anothers: "Q-07",
    # PostgreSQL refuses to lock a row outside a transaction.
    half_a_label_survives_a_crash: "Q-|cannot be used outside of a transaction",
    a_new_ranking_forgets_what_is_held: "Q-14",
    a_label_is_not_counted: "Q-19|n_labelled",
}
MORE_FAULTS = {
    a_person_is_given_what_they_have_labelled: "Q-16|an_image_once|workqueue_lease",
    an_image_is_given_to_more_people_than_wanted: "Q-01|Q-14",
    images_do_not_follow_a_change_of_the_overlap: "Q-14|Q-19",
    a_claim_ends_what_somebody_holds: "Q-05|Q-01|Q-14",
    a_lease_never_ends: "Q-05|Q-14",
    a_late_label_is_dropped: "Q-07|Q-14",
    the_worst_image_is_served_first: "Q-14",
    an_undone_image_loses_its_place: "Q-14",
    images_of_a_deleted_class_are_not_served_again: "Q-14|Q-16|Q-19",
    a_skipped_image_comes_back: "Q-17",
    a_skip_is_taken_back_from_under_somebody: "Q-01|Q-05",
    my_other_tab_is_somebody_else: "Q-17",
    what_is_kept_is_given_back_too: "Q-05",
    a_withdrawal_is_not_told: "Q-07",
    labels_stay_away_when_their_class_is_back: "Q-11|does not exist",
    what_others_said_since_keeps_a_label_away: "Q-11|does not exist",
    an_image_that_has_labels_back_counts_as_one: "Q-19",
    who_has_their_label_back_still_holds_the_image: "Q-16|Q-05",
    a_label_counts_though_its_author_was_removed: "Q-23",
    a_heartbeat_holds_an_image_for_ever: "Q-05",
    only_one_label_of_an_image_counts: "Q-05|Q-14|Q-19",
    who_lost_a_label_with_its_class_cannot_give_another: "Q-16",
    who_labels_outside_the_queue_can_be_given_the_image: "Q-16",
    an_undo_counts_everybody_who_holds_the_image: "Q-18|Q-06",
}


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        *(pytest.param(fault, broken, id=fault.__name__) for fault, broken in FAULTS.items()),
        *(
            pytest.param(fault, broken, id=fault.__name__, marks=pytest.mark.slow)
            for fault, broken in MORE_FAULTS.items()
        ),
    ],
)
@pytest.mark.timeout(600)
def test_the_machine_finds_each_planted_fault(fault, broken, monkeypatch):
    fault(monkeypatch)

    with pytest.raises(Exception, match=broken):
        run_state_machine_as_test(
            QueueMachine,
            settings=quick(max_examples=200, phases=[Phase.generate], report_multiple_bugs=False),
        )
