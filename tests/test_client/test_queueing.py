import logging
import time

import numpy as np
import pytest
from factories import make_images, make_member, make_ranking, now

from annotator.labeling.models import Annotation, Project
from annotator_client import AnnotatorError, UnansweredError, queueing
from workqueue import services
from workqueue.models import Lease, Prediction, Skip

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ranked(project):
    """Images in the order of the ranking."""
    stored = Project.objects.get(pk=project.id)
    images = make_images(stored, 7)
    make_ranking(stored, images[::-1])
    return [image.pk for image in images[::-1]]


def _live():
    return Lease.objects.filter(state=Lease.State.LIVE).count()


@pytest.mark.parametrize("ahead", [1, 3, 20])
def test_the_queue_is_drained_in_the_order_it_is_served(project, ranked, ahead):
    seen = []

    for task in project.queue(ahead=ahead):
        seen.append((task.image.id, task.why.position))
        given = task.submit("dog")
        assert (given.image_id, given.outcome) == (task.image.id, "accepted")

    assert seen == [(image, place) for place, image in enumerate(ranked, 1)]
    assert Annotation.objects.filter(is_current=True).count() == 7
    assert _live() == 0


def test_a_class_is_given_by_name_or_by_id_and_an_unknown_one_names_the_others(project, ranked):
    cat, dog, _ = project.classes
    tasks = project.queue()

    assert next(tasks).submit("cat").class_ids == [cat.id]
    assert next(tasks).submit(dog.id).class_ids == [dog.id]
    with pytest.raises(AnnotatorError, match=r"no class “cow”.*cat, dog, bird"):
        next(tasks).submit("cow")


def test_a_class_that_was_added_meanwhile_is_found(project, ranked):
    tasks = project.queue()
    task = next(tasks)
    project.transport.write("POST", f"projects/{project.id}/classes/", {"name": "cow"})

    assert task.submit("cow").outcome == "accepted"


def test_the_same_label_twice_is_one_label(project, ranked):
    task = next(project.queue())

    assert task.submit("cat").annotation_id == task.submit("cat").annotation_id
    assert Annotation.objects.count() == 1


def test_what_is_skipped_does_not_come_again(project, ranked):
    seen = [(task.image.id, task.skip("bad_image", "black")) for task in project.queue()]

    assert [image for image, _ in seen] == ranked
    assert set(Skip.objects.values_list("reason", "comment")) == {("bad_image", "black")}


def test_what_is_left_when_the_loop_ends_goes_back_to_its_old_place(project, ranked):
    for task in project.queue(ahead=4):
        task.submit("cat")
        break

    assert _live() == 0
    assert next(project.queue()).image.id == ranked[1]


def test_an_image_that_is_passed_over_is_told(project, ranked):
    with pytest.raises(UnansweredError, match=f"image {ranked[0]} "):
        for _ in project.queue():
            pass

    assert _live() == 0


def test_two_loops_of_one_token_have_no_image_in_common(project, ranked):
    first, second = project.queue(ahead=3), project.queue(ahead=3)

    assert next(first).image.id == ranked[0]
    assert next(second).image.id == ranked[3]


def test_what_is_held_is_prolonged_while_the_bot_thinks(project, ranked, monkeypatch):
    monkeypatch.setattr(queueing, "BEATS", 60 * 15 / 0.1)
    task = next(tasks := project.queue(ahead=2))
    before = dict(Lease.objects.values_list("pk", "expires_at"))

    time.sleep(1)

    after = dict(Lease.objects.values_list("pk", "expires_at"))
    assert len(before) == 2
    assert all(after[pk] > end for pk, end in before.items())
    task.submit("cat")
    tasks.close()


def test_a_heartbeat_that_fails_ends_nothing_and_is_told(project, ranked, monkeypatch, caplog):
    monkeypatch.setattr(queueing, "BEATS", 60 * 15 / 0.05)
    tasks = project.queue()
    task = next(tasks)
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):

        def write(*_, **__):
            raise AnnotatorError("nobody there")

        broken.setattr(project.transport, "write", write)
        time.sleep(0.5)

    assert "could not be prolonged: nobody there" in caplog.text
    assert task.submit("cat").outcome == "accepted"


def test_a_label_that_comes_late_is_kept_and_says_so(project, ranked, lead):
    stored = Project.objects.get(pk=project.id)
    tasks = project.queue()
    task = next(tasks)
    services.release_person(project=stored, user_id=lead.pk, actor=lead)
    services.claim(user=make_member(stored), project=stored, n=1, now=now())

    given = task.submit("cat")

    assert given.outcome == "late"
    assert "kept" in given.message
    tasks.close()


def test_a_loop_that_outlives_its_client_ends_with_a_sentence(client, project, ranked):
    tasks = project.queue()
    next(tasks).submit("cat")
    client.close()

    with pytest.raises(AnnotatorError, match="The client is closed"):
        next(tasks)


def test_a_bot_that_waits_is_given_what_comes_later(project, monkeypatch):
    monkeypatch.setattr(queueing, "POLL_S", 0.05)
    stored = Project.objects.get(pk=project.id)
    naps = []

    def sleep(_):
        naps.append(1)
        if len(naps) == 3:
            make_images(stored, 1)

    monkeypatch.setattr(queueing.time, "sleep", sleep)

    task = next(project.queue(wait=True))

    assert task.image.id == stored.images.get().pk
    assert len(naps) == 3


@pytest.mark.parametrize("kind", ["array", "lists", "float32"])
def test_predictions_are_posted_in_requests_the_server_takes(project, monkeypatch, kind):
    images = make_images(Project.objects.get(pk=project.id), 25)
    table = np.random.default_rng(0).dirichlet(np.ones(3), 25)
    given = {"array": table, "lists": table.tolist(), "float32": table.astype(np.float32)}[kind]
    monkeypatch.setattr("annotator_client.project.NUMBERS_AT_ONCE", 30)
    told = []

    first = project.predict("m", [image.pk for image in images], given, on_progress=told.append)
    again = project.predict("m", [image.pk for image in images], given)

    assert (first.n_created, first.n_updated, first.rejected) == (25, 0, [])
    assert (again.n_created, again.n_updated) == (0, 25)
    assert told == [10, 10, 5]
    stored = {
        entry.image_id: np.frombuffer(bytes(entry.probabilities), "<f4")
        for entry in Prediction.objects.all()
    }
    for image, row in zip(images, table, strict=True):
        np.testing.assert_allclose(stored[image.pk], row, atol=1e-6)


def test_columns_are_named_and_foreign_images_are_listed(project):
    (image,) = make_images(Project.objects.get(pk=project.id), 1)

    done = project.predict("m", [image.pk, 10**9], [[0.7, 0.3], [0.5, 0.5]], classes=["dog", "cat"])

    assert (done.n_created, done.rejected) == (1, [10**9])
    cat, dog = (entry.id for entry in project.classes[:2])
    (stored,) = project.transport.get(f"projects/{project.id}/predictions/")["results"]
    assert stored["probabilities"] == pytest.approx({str(dog): 0.7, str(cat): 0.3})


def test_rows_that_do_not_fit_the_images_are_refused_before_anything_is_sent(project):
    with pytest.raises(AnnotatorError, match="1 images and 2 rows"):
        project.predict("m", [1], [[1, 0, 0], [0, 1, 0]])
