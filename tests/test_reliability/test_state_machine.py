import itertools
import uuid
from types import SimpleNamespace

import pytest
from django.db import connections
from django.db.models import Q
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test
from queue_machine import QueueMachine, quick

from annotator.events import services as events
from annotator.labeling import hooks, restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image
from workqueue import rankings, services
from workqueue.models import Lease, Submission
from workqueue.services import labels, leases

pytestmark = pytest.mark.django_db(transaction=True)


def test_whatever_people_do_the_queue_keeps_its_promises():
    run_state_machine_as_test(QueueMachine, settings=quick())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_people_do_for_long_the_queue_keeps_its_promises():
    run_state_machine_as_test(
        QueueMachine,
        settings=quick(max_examples=200, stateful_step_count=50, derandomize=False),
    )


# --- Planted faults: what the machine would not notice it does not test ------------------------


def nothing(*_, **__):
    return Q(pk__in=[])


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
    patch.setattr(leases, "_leased", nothing)
    patch.setattr(leases, "Lease", Like(Lease, lambda **f: Lease(slot=next(slots), **f)))


def a_claim_ends_what_somebody_holds(patch):
    claim = services.claim

    def steal(*, user, project, **more):
        live = Lease.objects.filter(project=project, state="live").exclude(user=user)
        live.update(state="expired")
        return claim(user=user, project=project, **more)

    patch.setattr(services, "claim", steal)


def a_lease_never_ends(patch):
    def stay(execute, sql, params, many, context):
        if sql.startswith('UPDATE "workqueue_lease"') and params and params[0] == "expired":
            params = ("live", *params[1:])
        return execute(sql, params, many, context)

    patch.setattr(connections["default"], "execute_wrappers", [stay])


def a_repeated_request_is_a_new_one(patch):
    forgetful = SimpleNamespace(
        filter=lambda **_: Submission.objects.none(),
        create=lambda key, **more: Submission.objects.create(key=uuid.uuid4().hex, **more),
    )
    patch.setattr(labels, "Submission", Like(Submission, objects=forgetful))


def after_a_late_label(patch, then):
    record = labeling.record_annotation

    def record_and(*, is_late, **more):
        annotation = record(is_late=is_late, **more)
        if is_late:
            then(annotation)
        return annotation

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
    patch.setattr(leases, "_skip_locked", lambda rows, **_: rows.reverse())


def an_undone_image_loses_its_place(patch):
    set_done = labels._set_done
    patch.setattr(
        labels, "_set_done", lambda *args, done: set_done(*args, done=True) if done else None
    )


def images_of_a_deleted_class_are_not_served_again(patch):
    patch.setattr(hooks, "images_reopened", lambda *_: None)


def labels_stay_away_when_their_class_is_back(patch):
    patch.setattr(restoring, "_recallable", lambda said, living: [])


def a_label_counts_though_its_author_was_removed(patch):
    record = labeling.record_annotation
    patch.setattr(labeling, "record_annotation", lambda *, was_removed, **more: record(**more))


def a_heartbeat_holds_an_image_for_ever(patch):
    patch.setattr(leases, "_end", lambda lease, settings, now: now + settings.lease_length)


def a_skipped_image_comes_back(patch):
    patch.setattr(leases, "_skipped", nothing)


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
    def mark(image):
        Image.objects.filter(pk=image.pk).update(status=Image.Status.LABELLED)
        image.status = Image.Status.LABELLED

    patch.setattr(labeling, "_mark_labelled", mark)


def a_withdrawal_is_not_told(patch):
    record = events.record
    patch.setattr(
        events,
        "record",
        lambda *, kind, **more: record(kind=kind, **more) if "withdrawn" not in kind else None,
    )


# What breaks, or the constraint of the database that is faster.
FAULTS = {
    a_claim_takes_what_somebody_holds: "Q-01|one_live_lease|workqueue_lease",
    a_repeated_request_is_a_new_one: "Q-03",
    a_late_label_replaces_anothers: "Q-07",
    # PostgreSQL refuses to lock a row outside a transaction.
    half_a_label_survives_a_crash: "Q-|cannot be used outside of a transaction",
    a_new_ranking_forgets_what_is_held: "Q-14",
    a_label_is_not_counted: "Q-19|n_labelled",
}
MORE_FAULTS = {
    a_claim_ends_what_somebody_holds: "Q-05|Q-01|Q-14",
    a_lease_never_ends: "Q-05|Q-14",
    a_late_label_is_dropped: "Q-07",
    the_worst_image_is_served_first: "Q-14",
    an_undone_image_loses_its_place: "Q-14",
    images_of_a_deleted_class_are_not_served_again: "Q-14|Q-19",
    a_skipped_image_comes_back: "Q-17",
    a_skip_is_taken_back_from_under_somebody: "Q-01|Q-05",
    my_other_tab_is_somebody_else: "Q-17",
    what_is_kept_is_given_back_too: "Q-05",
    a_withdrawal_is_not_told: "Q-07",
    labels_stay_away_when_their_class_is_back: "Q-11|Q-14|does not exist",
    a_label_counts_though_its_author_was_removed: "Q-23|Q-14",
    a_heartbeat_holds_an_image_for_ever: "Q-05|Q-14",
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
def test_the_machine_finds_each_planted_fault(fault, broken, monkeypatch):
    fault(monkeypatch)

    with pytest.raises(Exception, match=broken):
        run_state_machine_as_test(
            QueueMachine,
            settings=quick(max_examples=200, phases=[Phase.generate], report_multiple_bugs=False),
        )
