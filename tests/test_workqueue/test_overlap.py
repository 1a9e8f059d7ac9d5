"""Several people label each image; how many is changed at any time."""

import uuid
from functools import partial

import numpy as np
import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from factories import (
    HOUR,
    class_of,
    make_images,
    make_label,
    make_member,
    make_project,
    make_ranking,
    now,
)
from queue_kit import DIM, do_open_jobs, embed

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, Project
from workqueue import housekeeping, learning, overlap, selectors, services
from workqueue.agreement import krippendorff_alpha
from workqueue.models import Lease, QueueState, RankedImage, Round
from workqueue.requests import request_round, state_of

pytestmark = pytest.mark.django_db


def ask_for(project, n):
    services.change_settings(
        project=project, actor=project.created_by, changes={"annotators_per_image": n}
    )
    project.refresh_from_db()


def make_shared(n_images, n_wanted, **fields):
    """Return a project that asks several people, and its images as they are ranked."""
    project = make_project(**fields)
    images = make_images(project, n_images)
    make_ranking(project, images)
    ask_for(project, n_wanted)
    return project, images


def claim(user, project, n=1, **more):
    return services.claim(user=user, project=project, n=n, **{"now": now()} | more).leases


def submit(user, lease, name="cat", at=None):
    return services.submit(
        user=user,
        project=lease.project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(lease.project, name).pk] if name else [],
        now=at or now(),
    ).answer


def label_next(user, project, name="cat"):
    (lease,) = claim(user, project)
    submit(user, lease, name)
    return lease


def label_all(user, project):
    seen = []
    while claim(user, project):
        seen.append(label_next(user, project).image_id)
    return seen


def counters(project):
    project.refresh_from_db()
    return project.n_labelled, project.n_labels


def statuses(images):
    rows = dict(
        Image.objects.filter(pk__in=[image.pk for image in images]).values_list("pk", "status")
    )
    return [rows[image.pk] for image in images]


# --- Serving ----------------------------------------------------------------------------------


def test_five_people_drain_a_project_and_each_image_has_labels_of_exactly_three():
    project, images = make_shared(10, 3)
    people = [make_member(project) for _ in range(5)]

    while served := [label_next(user, project) for user in people if claim(user, project)]:
        assert len(served) <= 5

    said = Annotation.objects.filter(is_current=True)
    authors = {image.pk: set() for image in images}
    for image_id, author_id in said.values_list("image", "author"):
        authors[image_id].add(author_id)
    assert {len(found) for found in authors.values()} == {3}
    assert said.count() == 30
    assert counters(project) == (10, 30)


def test_an_image_is_held_by_as_many_people_as_wanted_and_the_next_person_gets_the_next_best():
    project, images = make_shared(3, 2)
    people = [make_member(project) for _ in range(5)]

    served = [claim(user, project)[0].image for user in people]

    best, second, third = images
    assert served == [best, best, second, second, third]
    assert sorted(Lease.objects.filter(image=best).values_list("slot", flat=True)) == [0, 1]


def test_nobody_gets_an_image_again_that_they_have_labelled_hold_or_skipped():
    project, images = make_shared(4, 3)
    user = make_member(project)
    label_next(user, project)
    held = claim(user, project, client="one")
    (passed,) = claim(user, project, client="two")
    services.skip(user=user, project=project, lease_token=str(passed.token), reason="unsure")

    served = claim(user, project, 4, client="two")

    assert [held[0].image, passed.image] == images[1:3]
    assert [lease.image for lease in served] == images[3:]


def test_the_database_refuses_a_second_lease_of_an_image_for_who_has_labelled_it():
    project, images = make_shared(1, 3)
    user = make_member(project)
    label_next(user, project)

    with pytest.raises(IntegrityError), transaction.atomic():
        Lease.objects.create(
            image=images[0], project=project, user=user, slot=2,
            granted_at=now(), expires_at=now() + HOUR,
        )  # fmt: skip


def test_the_database_refuses_an_overlap_of_none_and_of_eleven():
    project = make_project()

    for n in (0, 11):
        with pytest.raises(IntegrityError), transaction.atomic():
            Project.objects.filter(pk=project.pk).update(annotators_per_image=n)


def test_unranked_images_are_shared_too():
    project = make_project()
    make_images(project, 2)
    ask_for(project, 2)
    people = [make_member(project) for _ in range(3)]

    served = [label_all(user, project) for user in people]

    assert [len(images) for images in served] == [2, 2, 0]


def test_whoever_has_labelled_all_is_told_that_the_rest_is_for_others():
    project, _ = make_shared(2, 2)
    user, other = make_member(project), make_member(project)
    label_all(user, project)

    empty = selectors.why_empty(project, user, now())
    claim(other, project)
    while_others_label = selectors.why_empty(project, user, now())
    label_all(other, project)

    assert empty.reason == while_others_label.reason == "waiting"
    assert empty.sentence.startswith("2 images are left, and you have labelled them all")
    assert selectors.why_empty(project, user, now()).reason == "done"


@pytest.mark.parametrize("n_wanted", [1, 3])
def test_a_claim_takes_six_queries_whoever_has_labelled_what(n_wanted):
    project, _ = make_shared(30, n_wanted)
    users = [make_member(project) for _ in range(3)]
    for user in users:
        label_next(user, project)
    with CaptureQueriesContext(connection) as nothing_held:
        claim(users[0], project, 2)
    with CaptureQueriesContext(connection) as two_held:
        claim(users[0], project, 3)

    def statements(captured):
        marks = ("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT")
        return [q["sql"] for q in captured if not q["sql"].startswith(marks)]

    # PostgreSQL is told to go down the ranking. The choice is looked at once more there after it is
    # locked; where images are shared a claim waits for its turn instead, and reads the settings
    # again then.
    more = 0 if connection.vendor == "sqlite" else 2 if n_wanted == 1 else 3
    assert len(statements(nothing_held)) == 5 + more
    assert len(statements(two_held)) == 6 + more


# --- Labels -----------------------------------------------------------------------------------


def test_labels_are_accepted_until_there_are_enough_and_later_ones_kept_beside_them():
    project, _ = make_shared(1, 2)
    people = [make_member(project) for _ in range(3)]
    late = [claim(user, project, now=now() - HOUR)[0] for user in people[:2]]
    taken = claim(people[2], project)[0]

    outcomes = [submit(people[2], taken)["outcome"]]
    outcomes += [submit(user, lease)["outcome"] for user, lease in zip(people, late, strict=False)]

    assert outcomes == ["accepted", "late", "second"]
    assert counters(project) == (1, 3)
    assert QueueState.objects.get().labels_since_round == 2


def test_a_label_in_time_is_not_late_because_others_label_the_same_image():
    project, _ = make_shared(1, 3)
    people = [make_member(project) for _ in range(3)]
    leases = [claim(user, project)[0] for user in people]
    ask_for(project, 2)

    outcomes = [submit(*pair)["outcome"] for pair in zip(people, leases, strict=True)]

    assert outcomes == ["accepted", "accepted", "second"]


def test_an_image_keeps_its_place_until_it_has_labels_enough():
    project, (image,) = make_shared(1, 2)
    done = RankedImage.objects.filter(image=image).values_list("is_done", flat=True)

    label_next(make_member(project), project)
    after_one = done.get(), *statuses([image])
    label_next(make_member(project), project)

    assert after_one == (False, "open")
    assert (done.get(), *statuses([image])) == (True, "labelled")


def test_an_undo_takes_back_ones_own_label_and_asks_only_for_ones_own_place():
    project, (image,) = make_shared(1, 2)
    first, second, third = (make_member(project) for _ in range(3))
    given = submit(first, claim(first, project)[0])["annotation"]
    (held,) = claim(second, project)

    back = services.undo(user=first, project=project, annotation_id=given, now=now())

    assert back.image == image
    assert set(Lease.objects.filter(state="live")) == {held, back}
    assert claim(third, project) == []
    submit(first, back, "dog")
    submit(second, held)
    assert counters(project) == (1, 2)


def test_an_undo_is_refused_when_others_have_all_places_and_the_label_stays():
    project, _ = make_shared(1, 2)
    first, *others = (make_member(project) for _ in range(3))
    (lease,) = claim(first, project, now=now() - HOUR)
    for other in others:
        claim(other, project)
    given = submit(first, lease)["annotation"]

    with pytest.raises(services.UndoRefusedError, match="Somebody else has"):
        services.undo(user=first, project=project, annotation_id=given, now=now())

    assert Annotation.objects.get(is_current=True).pk == given


def test_a_finished_image_is_open_again_when_one_of_its_labels_is_undone():
    project, (image,) = make_shared(1, 2)
    first, second, third = (make_member(project) for _ in range(3))
    given = submit(first, claim(first, project)[0])["annotation"]
    label_next(second, project)

    back = services.undo(user=first, project=project, annotation_id=given, now=now())
    services.release(user=first, project=project, lease_token=str(back.token))

    assert counters(project) == (0, 1)
    assert claim(second, project) == []
    assert claim(third, project)[0].image == image


def test_a_skip_is_taken_back_beside_somebody_else_who_holds_the_image():
    project, _ = make_shared(1, 2)
    user, other, third = (make_member(project) for _ in range(3))
    (lease,) = claim(user, project)
    asked = {"user": user, "project": project, "lease_token": str(lease.token)}
    services.skip(**asked, reason="unsure")
    claim(other, project)

    back = services.unskip_one(**asked, now=now())

    assert back.image == lease.image
    services.skip(**asked | {"lease_token": str(back.token)}, reason="unsure")
    claim(third, project)
    with pytest.raises(services.UnskipRefusedError, match="on the screen now"):
        services.unskip_one(**asked, now=now())


def test_who_has_labelled_a_skipped_image_in_another_tab_does_not_get_it_back():
    project, _ = make_shared(1, 2)
    user = make_member(project)
    (lease,) = claim(user, project)
    submit(user, lease)
    asked = {"user": user, "project": project, "lease_token": str(lease.token)}
    services.skip(**asked, reason="unsure")

    with pytest.raises(services.UnskipRefusedError, match="You have labelled"):
        services.unskip_one(**asked, now=now())


def test_a_deleted_class_takes_its_labels_and_only_their_authors_are_asked_again():
    project, (image,) = make_shared(1, 2)
    first, second, third = (make_member(project) for _ in range(3))
    label_next(first, project, "cat")
    label_next(second, project, "dog")

    reopened = labeling.delete_class(
        label_class=class_of(project, "cat"), actor=project.created_by, now=now()
    )

    assert reopened == 1
    assert counters(project) == (0, 1)
    assert QueueState.objects.get().labels_since_round == 1
    assert claim(second, project) == []
    assert label_next(first, project, "dog").image == image
    assert claim(third, project) == []


def test_the_question_before_deleting_a_class_counts_images_left_with_too_few_labels(client_of):
    project, _ = make_shared(3, 2)
    people = [make_member(project, Role.LEAD) for _ in range(2)]
    for names in (("cat", "dog"), ("cat", "cat"), ("dog", "dog")):
        for user, name in zip(people, names, strict=True):
            label_next(user, project, name)

    page = client_of(people[0]).get(f"/projects/{project.pk}/settings/").content.decode()
    went = labeling.delete_class(label_class=class_of(project, "cat"), actor=people[0], now=now())

    assert "Delete the class cat? 2 images have too few other labels and go back" in page
    assert went == 2


def test_a_deleted_image_takes_its_labels_out_of_the_count():
    project, (image, _) = make_shared(2, 2)
    label_next(make_member(project), project)

    labeling.delete_image(image=image, actor=project.created_by, now=now())

    assert counters(project) == (0, 0)


def test_a_reviewers_edit_leaves_it_the_authors_label():
    project, _ = make_shared(1, 2)
    user = make_member(project)
    given = submit(user, claim(user, project)[0])["annotation"]

    edited = services.edit(
        annotation=Annotation.objects.get(pk=given),
        actor=make_member(project, Role.REVIEWER),
        class_ids=[class_of(project, "dog").pk],
    )

    assert edited.author == user
    assert counters(project) == (0, 1)
    assert claim(user, project) == []


# --- What was deleted is brought back -----------------------------------------------------------


def delete_class(project, name="cat"):
    return labeling.delete_class(
        label_class=class_of(project, name), actor=project.created_by, now=now()
    )


def restore_class(project, name="cat"):
    label_class = project.classes.get(name=name)
    return restoring.restore_class(label_class=label_class, actor=project.created_by)


def said(image):
    """Return what stands for an image: person -> name of the class."""
    standing = Annotation.objects.filter(image=image, is_current=True)
    return dict(standing.values_list("author", "regions__label_class__name"))


def test_labels_that_come_back_finish_an_image_only_where_they_are_enough():
    project, (both, one) = make_shared(2, n_wanted=2)
    first, second = make_member(project), make_member(project)
    label_next(first, project)
    label_next(second, project)
    label_next(first, project)
    delete_class(project)
    assert counters(project) == (0, 0)
    assert state_of(project).labels_since_round == 0

    assert restore_class(project) == 3

    assert counters(project) == (1, 3)
    assert statuses([both, one]) == ["labelled", "open"]
    assert list(RankedImage.objects.order_by("position").values_list("is_done", flat=True)) == [
        True, False,
    ]  # fmt: skip
    assert state_of(project).labels_since_round == 3
    assert claim(first, project) == []
    assert [lease.image for lease in claim(second, project)] == [one]


def test_what_others_say_meanwhile_keeps_no_label_away_while_the_image_wants_people():
    project, (image,) = make_shared(1, n_wanted=2)
    first, second = make_member(project), make_member(project)
    label_next(first, project)
    delete_class(project)
    label_next(second, project, "dog")

    assert restore_class(project) == 1

    assert said(image) == {first.pk: "cat", second.pk: "dog"}
    assert counters(project) == (1, 2)


def test_a_label_stays_away_when_its_author_has_labelled_the_image_since():
    project, (image,) = make_shared(1, n_wanted=2)
    person = make_member(project)
    label_next(person, project)
    delete_class(project)
    label_next(person, project, "dog")

    assert restore_class(project) == 0

    assert said(image) == {person.pk: "dog"}
    assert counters(project) == (0, 1)


def test_a_label_stays_away_when_its_author_has_labelled_the_image_since_and_undone_it():
    project, (image,) = make_shared(1, n_wanted=2)
    person = make_member(project)
    label_next(person, project)
    delete_class(project)
    (lease,) = claim(person, project)
    given = submit(person, lease, "dog")
    services.undo(user=person, project=project, annotation_id=given["annotation"], now=now())

    assert restore_class(project) == 0

    assert said(image) == {}


def test_a_late_label_of_a_deleted_class_does_not_replace_what_its_author_said_before():
    project, (image,) = make_shared(1, n_wanted=2)
    person = make_member(project)
    lease = label_next(person, project, "dog")
    delete_class(project)
    assert submit(person, lease, "cat")["outcome"] == "orphaned"

    assert restore_class(project) == 0

    assert said(image) == {person.pk: "dog"}


def test_a_label_stays_away_from_an_image_that_has_enough_by_now():
    project, (image,) = make_shared(1, n_wanted=2)
    label_next(make_member(project), project)
    delete_class(project)
    others = [make_member(project) for _ in range(2)]
    for person in others:
        label_next(person, project, "dog")

    assert restore_class(project) == 0

    assert set(said(image)) == {person.pk for person in others}
    assert counters(project) == (1, 2)


def test_whose_label_comes_back_does_not_hold_the_image_any_more():
    project, _ = make_shared(1, n_wanted=2)
    person = make_member(project)
    answered = label_next(person, project)
    delete_class(project)
    (held,) = claim(person, project)

    restore_class(project)

    states = Lease.objects.values_list("state", flat=True)
    assert states.get(pk=answered.pk) == "submitted"
    assert states.get(pk=held.pk) == "released"
    assert submit(person, held, "dog")["action"] == "edit"
    assert counters(project) == (0, 1)


def test_an_image_that_comes_back_brings_its_labels_into_the_counters():
    project, (image, _) = make_shared(2, n_wanted=2)
    label_next(make_member(project), project)
    labeling.delete_image(image=image, actor=project.created_by, now=now())
    assert counters(project) == (0, 0)

    restoring.restore_image(image=image, actor=project.created_by)

    assert counters(project) == (0, 1)


def test_an_image_whose_class_went_while_it_was_deleted_comes_back_at_its_old_place():
    project, (image, _) = make_shared(2, n_wanted=1)
    label_next(make_member(project), project)
    labeling.delete_image(image=image, actor=project.created_by, now=now())
    delete_class(project)

    restoring.restore_image(image=image, actor=project.created_by)

    assert [lease.image for lease in claim(make_member(project), project)] == [image]


def test_a_label_comes_back_while_images_follow_a_change_to_more_people(monkeypatch):
    project, (image,) = make_shared(1, n_wanted=1)
    first, second = make_member(project), make_member(project)
    label_next(first, project)
    delete_class(project)
    label_next(second, project, "dog")
    with monkeypatch.context() as patched:
        patched.setattr(services.settings, "follow_overlap", lambda *_, **__: None)
        ask_for(project, 2)
    assert project.is_settling
    assert statuses([image]) == ["labelled"]

    assert restore_class(project) == 1

    assert set(said(image)) == {first.pk, second.pk}
    assert statuses([image]) == ["labelled"]
    overlap.follow_overlap(project)
    assert counters(project) == (1, 2)


# --- Changing it ------------------------------------------------------------------------------


def test_with_more_people_wanted_finished_images_are_asked_of_others_at_their_old_places():
    project, images = make_shared(3, 1)
    user, other = make_member(project), make_member(project)
    for _ in range(2):
        label_next(user, project)

    ask_for(project, 2)

    assert statuses(images) == ["open"] * 3
    assert counters(project) == (0, 2)
    assert [lease.image for lease in claim(user, project, 3)] == images[2:]
    assert [lease.image for lease in claim(other, project, 3)] == images


def test_with_fewer_people_wanted_images_with_enough_are_done_and_what_is_held_is_kept():
    project, images = make_shared(3, 3)
    people = [make_member(project) for _ in range(3)]
    label_next(people[0], project)
    label_next(people[1], project)
    (held,) = claim(people[2], project)

    ask_for(project, 2)

    assert statuses(images) == ["labelled", "open", "open"]
    assert counters(project) == (1, 2)
    assert submit(people[2], held)["outcome"] == "second"
    assert counters(project) == (1, 3)
    assert [lease.image for lease in claim(people[0], project, 3)] == images[1:]


def test_the_change_is_an_event_with_the_former_number_and_no_change_is_none():
    project, _ = make_shared(1, 3)

    ask_for(project, 3)

    (event,) = Event.objects.filter(kind="queue.settings_changed")
    assert event.payload["changes"] == {"annotators_per_image": [1, 3]}


@pytest.fixture
def few_at_once(monkeypatch):
    """Let three labels be many, and two images a step."""
    monkeypatch.setattr(overlap, "FEW_LABELS", 2)
    monkeypatch.setattr(overlap, "AT_ONCE", 2)


def make_changed(n_before, n_after):
    """Return a project with many labels whose images wait to follow a change."""
    project, images = make_shared(5, n_before)
    first, second, third = (make_member(project) for _ in range(3))
    for user in (first, second):
        for _ in range(3):
            label_next(user, project)
    ask_for(project, n_after)
    assert project.is_settling
    return project, images, (first, second, third)


def test_many_images_follow_in_the_background_in_short_steps(few_at_once):
    project, images, _ = make_changed(2, 3)
    job = Job.objects.get(kind="overlap")
    before = statuses(images)

    with CaptureQueriesContext(connection) as captured:
        jobs.run(job.pk)

    assert before == ["labelled"] * 3 + ["open"] * 2
    assert statuses(images) == ["open"] * 5
    assert counters(project) == (0, 6)
    assert not project.is_settling
    assert not RankedImage.objects.filter(is_done=True).exists()
    locked = [q["sql"] for q in captured if q["sql"].startswith('UPDATE "labeling_image"')]
    assert len(locked) == 2


def test_until_they_have_followed_nobody_is_given_an_image_with_labels_enough(few_at_once):
    project, images = make_shared(4, 3)
    people = [make_member(project) for _ in range(3)]
    for user in people[:2]:
        for _ in range(2):
            label_next(user, project)
    ask_for(project, 1)
    assert statuses(images) == ["open"] * 4

    served = claim(people[2], project, 4)
    again = claim(people[0], project, 4)

    assert [lease.image for lease in served] == images[2:]
    assert again == []
    jobs.run(Job.objects.get(kind="overlap").pk)
    assert statuses(images) == ["labelled", "labelled", "open", "open"]
    assert counters(project) == (2, 4)


def test_a_label_given_until_they_have_followed_is_counted_against_the_new_number(few_at_once):
    project, images, (_, _, third) = make_changed(3, 2)

    (lease,) = claim(third, project, now=now())
    assert lease.image == images[3]
    submit(third, lease)
    waiting = counters(project)
    jobs.run(Job.objects.get(kind="overlap").pk)

    assert waiting == (0, 7)
    assert counters(project) == (3, 7)


def test_a_change_while_the_images_follow_another_one_is_followed_too(few_at_once, monkeypatch):
    project, images, _ = make_changed(2, 3)
    settle = overlap.settle

    def change_and_settle(*args):
        monkeypatch.setattr(overlap, "settle", settle)
        ask_for(project, 1)
        settle(*args)

    monkeypatch.setattr(overlap, "settle", change_and_settle)
    jobs.run(Job.objects.get(kind="overlap").pk)

    assert Job.objects.get(kind="overlap").state == Job.State.DONE
    assert statuses(images) == ["labelled"] * 3 + ["open"] * 2
    assert counters(project) == (3, 6)
    assert not project.is_settling


def test_what_a_process_left_undone_is_found_and_done(monkeypatch):
    project, images = make_shared(1, 2)
    label_next(make_member(project), project)
    monkeypatch.setattr(services.settings, "follow_overlap", lambda *_, **__: None)
    ask_for(project, 1)
    assert (project.is_settling, statuses(images)) == (True, ["open"])

    housekeeping.keep_house(now=now())

    assert statuses(images) == ["labelled"]
    assert counters(project) == (1, 1)
    assert not project.is_settling


# --- Learning ---------------------------------------------------------------------------------


@pytest.fixture
def learnable():
    project = make_project()
    images = make_images(project, 30)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    ask_for(project, 3)
    return project, images, truth


def say(image, user, *names):
    classes = [class_of(image.project, name) for name in names]
    image.refresh_from_db()
    make_label(image, user, *classes)


def test_an_image_that_is_begun_while_a_round_reads_has_one_place_in_its_ranking(
    learnable, monkeypatch
):
    project, images, _ = learnable
    load_pool = learning.load_pool

    def load_and_begin(project, begun):
        pool = load_pool(project, begun)
        say(images[7], make_member(project), "cat")
        return pool

    monkeypatch.setattr(learning, "load_pool", load_and_begin)

    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    assert Round.objects.get().state == "done"
    ranking = state_of(project).ranking
    assert RankedImage.objects.filter(ranking=ranking, image=images[7]).count() == 1


def learned(project):
    """Return image id -> the names of the classes a head is trained on."""
    labelled = learning.load_labelled(project, frame_before=0)
    names = dict(project.classes.values_list("pk", "name"))
    order = [names[pk] for pk in labelled.class_ids]
    if project.kind == Project.Kind.ONE_CLASS:
        said = [order[target] for target in labelled.targets]
    else:
        said = [{order[k] for k in np.flatnonzero(row)} for row in labelled.targets]
    return dict(zip(labelled.image_ids.tolist(), said, strict=True))


@pytest.mark.parametrize(
    ("said", "learned_class"),
    [
        (["cat"], "cat"),
        (["cat", "dog"], "cat"),
        (["cat", "dog", "dog"], "dog"),
        (["bird", "dog", "cat"], "bird"),
        (["bird", "dog", "dog", "cat", "cat"], "dog"),
    ],
)
def test_the_class_most_people_chose_is_learned_and_among_equals_the_earlier_one(
    learnable, said, learned_class
):
    project, images, _ = learnable
    for name in said:
        say(images[0], make_member(project), name)

    assert learned(project) == {images[0].pk: learned_class}


def test_where_images_have_several_classes_each_class_is_voted_on():
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    images = make_images(project, 2)
    embed(project, images, np.eye(3, DIM) * 3)
    ask_for(project, 3)
    people = [make_member(project) for _ in range(3)]
    for user, names in zip(people, (["cat", "dog"], ["dog", "bird"], ["cat"]), strict=True):
        say(images[0], user, *names)
    say(images[1], people[0], "cat")
    say(images[1], people[1])

    assert learned(project) == {images[0].pk: {"cat", "dog"}, images[1].pk: {"cat"}}


def test_an_image_that_more_people_are_asked_for_is_learned_measured_and_not_in_the_pool(
    learnable,
):
    project, images, _ = learnable
    first_of_list = sorted(images, key=lambda image: image.random_key)[:12]
    for image in first_of_list:
        say(image, make_member(project), "cat")

    labelled = learning.load_labelled(project, frame_before=0)
    pool = learning.load_pool(project, learning.load_begun(project))

    assert set(labelled.image_ids.tolist()) == {image.pk for image in first_of_list}
    assert labelled.measured.all()
    assert set(pool.image_ids.tolist()).isdisjoint(labelled.image_ids.tolist())
    assert len(pool) == 18


def test_a_new_ranking_puts_images_first_that_were_begun_and_says_so_without_a_guess(
    learnable, client_of
):
    project, _, truth = learnable
    user, other = make_member(project), make_member(project)
    begun = []
    for _ in range(12):
        (lease,) = claim(user, project)
        submit(user, lease, truth[lease.image_id].name)
        begun.append(lease.image_id)
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    body = {"n": 13}
    answer = client_of(other).post(reverse("api:claim", args=[project.pk]), body, format="json")

    leases = answer.json()["leases"]
    assert [lease["image"]["id"] for lease in leases[:12]] == begun
    assert all(lease["suggestion"] is None for lease in leases[:12])
    assert leases[0]["why"]["kind"] == "begun"
    assert leases[0]["why"]["sentence"].startswith("Somebody else has labelled this image")
    assert leases[12]["why"]["position"] == 1
    ranking = state_of(project).ranking
    assert (ranking.n_begun, ranking.n_positions, ranking.n_pool) == (12, 30, 18)
    own = client_of(user).post(reverse("api:claim", args=[project.pk]), {}, format="json").json()
    assert own["leases"][0]["image"]["id"] not in begun


# --- Agreement --------------------------------------------------------------------------------

# Two examples of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): B and C.
TWO_OBSERVERS = ("0100000010", "1110010000")
FOUR_OBSERVERS = ("123321412   ", "1233224125 3", " 3332342251 ", "12332441251 ")


@pytest.mark.parametrize(("observers", "alpha"), [(TWO_OBSERVERS, 0.095), (FOUR_OBSERVERS, 0.743)])
def test_alpha_is_what_its_author_computes(observers, alpha):
    units = [[value for value in unit if value != " "] for unit in zip(*observers, strict=True)]

    assert round(krippendorff_alpha(units), 3) == alpha


def test_alpha_says_nothing_where_there_is_one_class_only():
    assert krippendorff_alpha([["cat", "cat"], ["cat", "cat", "cat"], ["dog"]]) is None


def make_disagreement(n_images=12, n_differ=3):
    project, images = make_shared(n_images, 2)
    people = [make_member(project) for _ in range(2)]
    for number in range(n_images):
        name = "cat" if number % 2 else "bird"
        label_next(people[0], project, name)
        label_next(people[1], project, "dog" if number < n_differ else name)
    return project, images


def test_a_lead_sees_how_far_people_agree_and_others_do_not(client_of):
    project, _ = make_disagreement()
    page_of = partial(reverse, "progress", args=[project.pk])
    metrics_of = reverse("api:metrics", args=[project.pk])
    lead, annotator = (client_of(make_member(project, role)) for role in (Role.LEAD, Role.REVIEWER))

    page = lead.get(page_of()).content.decode()
    found = lead.get(metrics_of).json()["agreement"]

    assert "75 %<small>of 12 images with several labels" in page
    assert (found["n_images"], found["n_differ"], found["unanimous"]) == (12, 3, 0.75)
    assert 0.5 < found["alpha"] < 0.75
    assert "Krippendorff" not in annotator.get(page_of()).content.decode()
    assert "agreement" not in annotator.get(metrics_of).json()


def test_few_images_say_nothing_of_agreement(client_of):
    project, _ = make_disagreement(n_images=4)
    client = client_of(make_member(project, Role.LEAD))

    found = client.get(reverse("api:metrics", args=[project.pk])).json()["agreement"]

    assert (found["n_images"], found["unanimous"], found["alpha"]) == (4, None, None)


def test_the_images_people_disagree_on_are_listed_with_who_said_what(client_of):
    project, images = make_disagreement()
    client = client_of(make_member(project, Role.LEAD))

    listed = client.get(reverse("api:images", args=[project.pk]), {"agreement": "differs"}).json()[
        "results"
    ]
    page = client.get(reverse("images", args=[project.pk]), {"agreement": "differs"})

    assert {image["id"] for image in listed} == {image.pk for image in images[:3]}
    names = dict(project.classes.values_list("pk", "name"))
    said = [[names[pk] for pk in entry["class_ids"]] for entry in listed[0]["annotations"]]
    assert said == [["bird"], ["dog"]]
    assert page.content.decode().count("data-tile ") == 3
    wrong = client.get(reverse("api:images", args=[project.pk]), {"agreement": "maybe"})
    assert wrong.status_code == 400


def test_who_leaves_out_a_class_disagrees_too():
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    same, less, none = make_images(project, 3)
    people = [make_member(project) for _ in range(2)]
    for image, labels in ((same, (["cat"], ["cat"])), (less, (["cat", "dog"], ["cat"]))):
        for user, names in zip(people, labels, strict=True):
            say(image, user, *names)
    say(none, people[0], "cat")
    say(none, people[1])

    assert set(selectors.gallery(project, disagreed=True)) == {less, none}


# --- Over HTTP --------------------------------------------------------------------------------


def test_a_lead_changes_it_over_the_api_and_the_status_tells_the_truth(client_of):
    project, _ = make_shared(2, 1)
    user, lead = make_member(project), make_member(project, Role.LEAD)
    label_next(user, project)
    settings_of = reverse("api:queue_settings", args=[project.pk])

    changed = client_of(lead).patch(settings_of, {"annotators_per_image": 2}, format="json")

    assert changed.status_code == 200
    assert changed.json()["annotators_per_image"] == 2
    assert client_of(user).get(settings_of).json()["annotators_per_image"] == 2
    status = client_of(user).get(reverse("api:status", args=[project.pk])).json()
    figures = ("n_images", "n_labelled", "n_open", "n_labels", "annotators_per_image")
    assert [status[name] for name in figures] == [2, 0, 2, 1, 2]
    shown = client_of(user).get(reverse("api:project", args=[project.pk])).json()
    assert (shown["annotators_per_image"], shown["n_labels"]) == (2, 1)
    history = client_of(lead).get(reverse("api:settings_history", args=[project.pk])).json()
    assert history["results"][0]["changes"] == {"annotators_per_image": [1, 2]}


@pytest.mark.parametrize("wrong", [0, 11, -1, 1.5, "many", None, True, [2]])
def test_a_number_of_people_that_cannot_be_is_refused(client_of, wrong):
    project, _ = make_shared(1, 2)
    lead = client_of(make_member(project, Role.LEAD))

    answer = lead.patch(
        reverse("api:queue_settings", args=[project.pk]),
        {"annotators_per_image": wrong},
        format="json",
    )

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/annotators_per_image"
    project.refresh_from_db()
    assert project.annotators_per_image == 2


def test_only_a_lead_changes_it(client_of):
    project, _ = make_shared(1, 1)

    answer = client_of(make_member(project, Role.REVIEWER)).patch(
        reverse("api:queue_settings", args=[project.pk]),
        {"annotators_per_image": 2},
        format="json",
    )

    assert answer.status_code == 403


def test_a_label_beyond_those_wanted_is_answered_with_what_became_of_it(client_of):
    project, _ = make_shared(1, 3)
    people = [make_member(project) for _ in range(3)]
    leases = [claim(user, project)[0] for user in people]
    ask_for(project, 2)
    for pair in zip(people[:2], leases[:2], strict=True):
        submit(*pair)

    answer = client_of(people[2]).post(
        reverse("api:submit", args=[project.pk]),
        {
            "lease": str(leases[2].token),
            "class_ids": [class_of(project).pk],
            "key": uuid.uuid4().hex,
        },
        format="json",
    )

    assert answer.status_code == 201
    assert answer.json()["message"].startswith("Enough other people labelled this image")
