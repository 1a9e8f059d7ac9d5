import os
from datetime import timedelta

import numpy as np
import pytest
from django.conf import settings
from factories import class_of, make_images, make_member, make_project, now
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Image, Project
from ml import embedding_store
from workqueue import housekeeping, learning, rounds, services
from workqueue.models import (
    ModelVersion,
    QueueState,
    Ranking,
    Round,
    Segment,
)
from workqueue.requests import request_round, state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def setting():
    project = make_project()
    images = make_images(project, 120)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    return project, make_member(project), truth


def test_the_loop_starts_by_coverage_and_then_follows_the_heuristic(setting):
    project, user, truth = setting
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    first = label(project, user, truth, 20)
    do_open_jobs()
    second = label(project, user, truth, 20)
    do_open_jobs()

    assert {lease.served["kind"] for lease in first} == {"coverage"}
    assert {lease.served["kind"] for lease in second} == {"heuristic"}
    newest = Round.objects.order_by("-number")[0]
    assert newest.state == Round.State.DONE
    assert newest.n_labels == 40
    assert newest.model_version.number == 2
    assert newest.overlap_top_100 is not None
    assert QueueState.objects.get().labels_since_round == 0
    explored = [lease for lease in second if lease.served["explored"]]
    assert len(explored) == 2
    assert all(lease.served["draw_probability"] > 0 for lease in explored)


def test_the_most_uncertain_images_come_first(setting):
    project, user, truth = setting
    services.change_settings(
        project=project,
        actor=user,
        changes={"exploration_share": 0.0, "heuristic": "margin", "spread_duplicates": False},
    )
    label(project, user, truth, 20)
    do_open_jobs()

    ranking = state_of(project).ranking
    scores = list(ranking.positions.order_by("position").values_list("score", flat=True))

    assert scores == sorted(scores, reverse=True)
    pool = learning.load_pool(project, learning.load_begun(project))
    head = learning.load_head(ranking.model_version)
    probabilities = np.sort(head.probabilities(pool.vectors(np.arange(len(pool)))), axis=1)
    margins = 1 - (probabilities[:, -1] - probabilities[:, -2])
    best = int(pool.image_ids[int(np.argmax(margins))])
    assert ranking.positions.get(position=1).image_id == best


def test_a_changed_heuristic_is_used_from_the_next_ranking_on(setting):
    project, user, truth = setting
    label(project, user, truth, 20)
    do_open_jobs()
    before = state_of(project).ranking

    services.change_settings(project=project, actor=user, changes={"heuristic": "none"})
    assert state_of(project).ranking == before
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    ranking = state_of(project).ranking
    order = ranking.positions.filter(explored=False).order_by("position")
    ids = list(order.values_list("image_id", flat=True))
    assert ranking.heuristic == "none"
    assert ids == sorted(ids)


def test_a_rank_budget_ranks_that_many_and_the_rest_still_follows(setting):
    project, user, truth = setting
    services.change_settings(
        project=project,
        actor=user,
        changes={"budget_kind": "number", "budget_value": 10, "exploration_share": 0.0},
    )
    label(project, user, truth, 20)
    do_open_jobs()

    ranking = state_of(project).ranking
    assert (ranking.n_candidates, ranking.n_positions, ranking.n_pool) == (10, 10, 100)
    label(project, user, truth, 15)


def test_accuracy_is_measured_only_on_the_random_sample(setting):
    project, user, truth = setting
    for _ in range(4):
        label(project, user, truth, 20)
        do_open_jobs()

    labelled = learning.load_labelled(project, frame_before=0)

    open_keys = project.images.filter(status="open").values_list("random_key", flat=True)
    keys = dict(project.images.values_list("pk", "random_key"))
    expected = [keys[pk] < min(open_keys) for pk in labelled.image_ids.tolist()]
    assert labelled.measured.tolist() == expected
    accuracy = Round.objects.order_by("-number")[0].metrics["accuracy"]
    assert accuracy["n"] == sum(expected)
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_images_added_later_do_not_wipe_the_measurement(setting):
    project, user, truth = setting
    for _ in range(4):
        label(project, user, truth, 20)
        do_open_jobs()
    before = learning.load_labelled(project, frame_before=0)

    embed(project, make_images(project, 400), np.eye(3, DIM) * 3)
    after = learning.load_labelled(project, frame_before=before.frame_until)

    assert after.measured.sum() == before.measured.sum()
    assert after.frame_until == before.frame_until


def test_labels_given_during_a_round_count_for_the_next(setting, monkeypatch):
    project, user, truth = setting
    rank = rounds._rank

    def rank_while_someone_labels(*args, **kwargs):
        if Round.objects.count() == 1:
            label(project, user, truth, 20)
        return rank(*args, **kwargs)

    monkeypatch.setattr(rounds, "_rank", rank_while_someone_labels)
    label(project, user, truth, 20)
    jobs.run(Job.objects.get().pk)

    assert Round.objects.get(number=1).n_labels == 20
    assert Round.objects.get(number=2).state == Round.State.QUEUED
    assert QueueState.objects.get().labels_since_round == 20
    do_open_jobs()
    assert Round.objects.get(number=2).n_labels == 40
    assert QueueState.objects.get().labels_since_round == 0


def test_a_worker_killed_in_the_middle_leaves_the_old_order_and_the_round_is_done_again(
    setting, monkeypatch
):
    project, user, truth = setting
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    old = state_of(project).ranking
    label(project, user, truth, 20)
    job = Job.objects.get(kind="round", state=Job.State.QUEUED)

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(rounds, "_flip", die)
        with pytest.raises(Killed):
            jobs.run(job.pk)

    assert state_of(project).ranking == old
    assert services.claim(user=user, project=project, n=1, now=now()).leases
    later = now() + settings.JOB_LEASE * 2
    jobs.sweep(now=later)
    do_open_jobs()
    assert Round.objects.get(job=job).state == Round.State.DONE
    assert state_of(project).ranking.number > old.number


def test_a_round_that_fails_says_why_and_can_be_tried_again(setting, monkeypatch):
    project, user, truth = setting

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(learning, "save_head", fail)
        label(project, user, truth, 20)
        for _ in range(settings.JOB_MAX_ATTEMPTS):
            do_open_jobs()

    failed = Round.objects.get()
    assert failed.state == Round.State.FAILED
    assert "No space left" in failed.error
    assert not ModelVersion.objects.exists()
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    assert Round.objects.get(number=2).state == Round.State.DONE


def test_a_lost_round_job_is_found_by_the_housekeeping(setting):
    project, user, truth = setting
    label(project, user, truth, 20)
    Job.objects.all().delete()

    housekeeping.keep_house(now=now())

    assert Round.objects.get().state == Round.State.FAILED


def test_a_torn_segment_is_forgotten_and_embedded_again(setting):
    project, _, _ = setting
    segment = Segment.objects.get()
    path = settings.EMBEDDINGS_ROOT / segment.name
    path.write_bytes(path.read_bytes()[:-100])

    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    assert not Segment.objects.exists()
    assert Job.objects.filter(kind="embed", state=Job.State.QUEUED).exists()
    assert Round.objects.get().state == Round.State.DONE


def test_one_class_only_keeps_to_coverage_and_says_so(setting):
    project, user, truth = setting
    cat = class_of(project, "cat")
    label(project, user, dict.fromkeys(truth, cat), 20)
    do_open_jobs()

    done = Round.objects.get()
    assert done.model_version is None
    assert "only one class" in done.note
    assert done.ranking.kind == Ranking.Kind.COVERAGE


def test_a_class_deleted_between_rounds_leaves_training_and_the_loop_goes_on(setting):
    project, user, truth = setting
    label(project, user, truth, 20)
    do_open_jobs()
    labelled = Project.objects.get(pk=project.pk).n_labelled
    reopened = labeling.delete_class(label_class=class_of(project, "bird"), actor=user, now=now())
    truth = {
        pk: entry if entry.name != "bird" else class_of(project, "cat")
        for pk, entry in truth.items()
    }

    label(project, user, truth, 20)
    do_open_jobs()

    newest = ModelVersion.objects.order_by("-number")[0]
    assert class_of(project, "bird").pk not in newest.class_ids
    # Everything the counter says is labelled is learned from.
    assert reopened > 0
    assert newest.n_labels == labelled - reopened + 20 == Project.objects.get().n_labelled


def test_deleted_images_leave_pool_training_and_queue(setting):
    project, user, truth = setting
    leases = label(project, user, truth, 20)
    gone = Image.objects.get(pk=leases[0].image_id)
    pooled = project.images.filter(status="open").first()
    for image in (gone, pooled):
        labeling.delete_image(image=image, actor=user, now=now())
    do_open_jobs()

    newest = Round.objects.get()
    assert newest.n_labels == 19
    assert newest.n_pool == 99
    assert not newest.ranking.positions.filter(image=pooled).exists()


def test_several_classes_per_image_are_learned_too():
    project = make_project(kind="several_classes")
    images = make_images(project, 90)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    user = make_member(project)
    label(project, user, truth, 40)
    do_open_jobs()

    (lease,) = services.claim(user=user, project=project, n=1, now=now()).leases
    tops = lease.served["top_classes"]

    assert lease.served["kind"] == "heuristic"
    assert all(0 <= probability <= 1 for _, probability in tops)
    services.submit(
        user=user, project=project, key="none", lease_token=str(lease.token), class_ids=[],
        now=now(),
    )  # fmt: skip


def test_another_backbone_embeds_every_image_again_before_the_next_round(setting):
    project, user, truth = setting
    Segment.objects.update(backbone="the-former-one")
    label(project, user, truth, 20)
    do_open_jobs()
    housekeeping.keep_house(now=now())

    round_ = Round.objects.get()

    assert round_.state == Round.State.FAILED
    assert "embedded again" in round_.error
    assert Job.objects.filter(kind="embed", state=Job.State.QUEUED).exists()


def test_the_ranking_of_a_round_that_died_is_cleared_and_the_current_one_stays(setting):
    project, user, truth = setting
    label(project, user, truth, 20)
    do_open_jobs()
    current = state_of(project).ranking
    orphan = Ranking.objects.create(
        project=project, number=99, kind="heuristic", n_pool=1, n_candidates=1, n_positions=0
    )
    Ranking.objects.update(created_at=now() - timedelta(hours=2))

    housekeeping.keep_house(now=now())

    assert list(Ranking.objects.all()) == [current]
    assert orphan.pk != current.pk


def test_segment_files_nobody_names_are_removed_once_they_are_old(setting):
    stray = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, np.zeros((2, DIM)))
    fresh = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, np.zeros((2, DIM)))
    kept = Segment.objects.get().name
    for name in (stray.name, kept):
        os.utime(settings.EMBEDDINGS_ROOT / name, (0, 0))

    learning.remove_stray_segments(keep={kept})

    assert not (settings.EMBEDDINGS_ROOT / stray.name).exists()
    assert (settings.EMBEDDINGS_ROOT / fresh.name).exists()
    assert (settings.EMBEDDINGS_ROOT / kept).exists()
