"""Labels wait for whoever writes, so nobody writes many rows at once. Counted, not timed."""

import io
import zipfile
from datetime import timedelta

import numpy as np
import pytest
from django.conf import settings
from django.db import transaction
from factories import class_of, make_images, make_member, make_project, now
from PIL import Image as Picture
from ranking_kit import rerank
from transaction_kit import rows_written

from annotator.api.models import StoredAnswer
from annotator.ingest import services as ingest
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, AnnotationRegion, Image, Project
from ml import embedding_store
from workqueue import embedding, housekeeping, learning, rankings, services
from workqueue.models import (
    Embedding,
    ExternalModel,
    Prediction,
    QueueState,
    RankedImage,
    Ranking,
    Segment,
)
from workqueue.requests import state_of

pytestmark = pytest.mark.django_db(transaction=True)

# About a tenth of a second of SQLite.
MOST_ROWS = 1100
MANY = 2600


@pytest.fixture
def project():
    project = make_project()
    state_of(project)
    return project


@pytest.fixture
def images(project):
    return make_images(project, MANY)


def image_ids(images):
    return [image.pk for image in images]


def test_the_count_of_rows_sees_what_a_transaction_writes(project):
    with rows_written() as sizes:
        with transaction.atomic():
            images = make_images(project, 40)
            Image.objects.filter(pk__in=image_ids(images)[:7]).update(note="x")
        Image.objects.filter(pk=images[0].pk).update(note="y")

    # One more is the project's counter.
    assert sizes == [48, 1]


def test_a_new_ranking_is_written_a_few_rows_at_a_time(project, images):
    with rows_written() as sizes:
        rerank(project, image_ids(images))

    assert sum(sizes) > MANY
    assert max(sizes) <= MOST_ROWS


def test_old_rankings_are_dropped_a_few_rows_at_a_time(project, images):
    old = rerank(project, image_ids(images))
    orphan = Ranking.objects.create(
        project=project, number=2, kind="heuristic", heuristic="margin", n_pool=MANY,
        n_candidates=MANY, n_positions=MANY,
    )  # fmt: skip
    RankedImage.objects.bulk_create(
        RankedImage(ranking=orphan, position=number, image=image)
        for number, image in enumerate(images, 1)
    )
    in_use = rerank(project, image_ids(images)[:1])
    Ranking.objects.update(created_at=now() - timedelta(days=1))
    Ranking.objects.filter(pk=in_use.pk).update(number=housekeeping.RANKINGS_KEPT + 1)

    with rows_written() as sizes:
        housekeeping.keep_house(now=now())

    assert not old.positions.exists()
    assert not Ranking.objects.filter(pk=orphan.pk).exists()
    assert in_use.positions.exists()
    assert sum(sizes) > 2 * MANY
    assert max(sizes) <= MOST_ROWS


@pytest.fixture
def labelled(project, images):
    """All images are labelled cat and ranked."""
    rerank(project, image_ids(images))
    author, cat = make_member(project), class_of(project)
    given = Annotation.objects.bulk_create(
        Annotation(image=image, author=author) for image in images
    )
    AnnotationRegion.objects.bulk_create(
        AnnotationRegion(annotation=annotation, label_class=cat) for annotation in given
    )
    Image.objects.filter(project=project).update(status=Image.Status.LABELLED)
    Project.objects.filter(pk=project.pk).update(n_labelled=MANY, n_labels=MANY)
    RankedImage.objects.update(is_done=True)


def do_waiting_job():
    assert jobs.run(Job.objects.get(kind="settle_class", state=Job.State.QUEUED).pk) == "done"


@pytest.mark.usefixtures("labelled")
def test_a_class_of_many_images_is_deleted_and_brought_back_a_few_images_at_a_time(project):
    cat, lead = class_of(project), project.created_by

    with rows_written() as sizes:
        labeling.delete_class(label_class=cat, actor=lead, now=now())
        do_waiting_job()

    assert Project.objects.get().n_labelled == 0
    assert RankedImage.objects.filter(is_done=False).count() == MANY
    assert max(sizes) <= MOST_ROWS

    with rows_written() as sizes:
        restoring.restore_class(label_class=cat, actor=lead)
        do_waiting_job()

    assert Project.objects.get().n_labelled == MANY
    assert Annotation.objects.filter(is_current=True).count() == MANY
    assert max(sizes) <= MOST_ROWS


@pytest.mark.usefixtures("labelled")
def test_a_worker_that_dies_while_labels_follow_their_class_leaves_the_rest_to_the_next(
    project, monkeypatch
):
    cat, lead = class_of(project), project.created_by
    labeling.delete_class(label_class=cat, actor=lead, now=now())
    job = Job.objects.get(kind="settle_class")
    withdraw, done = restoring.withdraw_without_class, []

    def die_after_three(*args):
        if len(done) == 3:
            raise ConnectionError("the worker died")
        done.append(args)
        return withdraw(*args)

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "withdraw_without_class", die_after_three)
        assert jobs.run(job.pk) == "failed"
    assert Project.objects.get().n_labelled == MANY - 3 * labeling.AT_ONCE

    assert jobs.run(job.pk) == "done"

    assert Project.objects.get().n_labelled == 0
    assert Annotation.objects.filter(action=Annotation.Action.WITHDRAW).count() == MANY


def test_an_import_writes_a_few_rows_at_a_time(project, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(48):
            Picture.new("RGB", (8, 8), (number, 0, 0)).save(content := io.BytesIO(), "PNG")
            archive.writestr(f"{number}.png", content.getvalue())
    upload = ingest.start_upload(
        project=project, user=project.created_by, file_name="a.zip", length=packed.tell()
    )
    length = packed.tell()
    packed.seek(0)
    ingest.append_to_upload(upload=upload, offset=0, source=packed, length=length)

    with rows_written() as sizes:
        assert jobs.run(Job.objects.get(kind="import").pk) == "done"

    assert Image.objects.count() == 48
    assert len(sizes) > 3
    assert max(sizes) <= ingest.ENTRIES_AT_ONCE + 4


# --- Embeddings ---------------------------------------------------------------------------------


@pytest.fixture
def segments(project, images):
    """The images' embeddings, in forty small files; image n's tells n."""
    for start in range(0, MANY, MANY // 40):
        some = images[start : start + MANY // 40]
        numbers = np.arange(start, start + len(some))
        # Half precision knows no whole number above 2,048.
        vectors = np.stack([numbers // 100, numbers % 100], axis=1).astype(np.float16)
        stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors)
        segment = Segment.objects.create(
            project=project, backbone=learning.BACKBONE, name=stored.name, n_rows=stored.rows,
            dim=stored.dim, sha256=stored.sha256,
        )  # fmt: skip
        Embedding.objects.bulk_create(
            Embedding(image=image, segment=segment, row=row) for row, image in enumerate(some)
        )


def embed(project):
    job = jobs.enqueue(kind="embed", queue="embed", project_id=project.pk, params={})
    return jobs.run(job.pk)


def assert_each_image_has_its_own_embedding(images):
    places = Embedding.objects.select_related("segment").in_bulk(
        image_ids(images), field_name="image_id"
    )
    origins = [(places[image.pk].segment.name, places[image.pk].row) for image in images]
    found = embedding_store.gather(settings.EMBEDDINGS_ROOT, embedding_store.Places.of(origins))
    numbers = {image.pk: number for number, image in enumerate(Image.objects.order_by("pk"))}
    assert (found @ [100.0, 1.0]).tolist() == [numbers[image.pk] for image in images]


@pytest.mark.usefixtures("segments")
def test_embeddings_are_merged_and_purged_a_few_rows_at_a_time(project, images):
    gone = [image.pk for image in images[::2]]
    Image.objects.filter(pk__in=gone).update(deleted_at=now())

    with rows_written() as sizes:
        assert embed(project) == "done"

    assert Embedding.objects.count() == MANY - len(gone)
    assert QueueState.objects.get().n_embedded == MANY - len(gone)
    assert Segment.objects.count() == 1
    assert_each_image_has_its_own_embedding(images[1::2])
    assert max(sizes) <= MOST_ROWS


@pytest.mark.usefixtures("segments")
def test_embeddings_of_another_backbone_are_forgotten_a_few_rows_at_a_time(
    project, images, monkeypatch
):
    Segment.objects.update(backbone="another")
    monkeypatch.setattr(embedding, "waiting_images", lambda project: Image.objects.none())

    with rows_written() as sizes:
        assert embed(project) == "done"

    assert not Embedding.objects.exists()
    assert not Segment.objects.exists()
    assert max(sizes) <= MOST_ROWS


@pytest.mark.usefixtures("segments")
def test_a_worker_that_dies_in_the_middle_of_a_merge_loses_no_embedding(
    project, images, monkeypatch
):
    bulk_update, done = Embedding.objects.bulk_update, []

    def die_at_the_second(*args, **more):
        if done:
            raise ConnectionError("the worker died")
        done.append(bulk_update(*args, **more))

    with monkeypatch.context() as patched:
        patched.setattr(Embedding.objects, "bulk_update", die_at_the_second, raising=False)
        job = jobs.enqueue(kind="embed", queue="embed", project_id=project.pk, params={})
        assert jobs.run(job.pk) == "failed"
    assert done
    assert_each_image_has_its_own_embedding(images)

    assert jobs.run(job.pk) == "done"

    assert_each_image_has_its_own_embedding(images)
    assert Embedding.objects.count() == MANY


def test_predictions_are_stored_and_forgotten_a_few_rows_at_a_time(project, images):
    lead, class_ids = project.created_by, [entry.pk for entry in project.classes.all()]
    row = np.array([0.5, 0.3, 0.2], "<f4").tobytes()

    with rows_written() as sizes:
        stored = services.put_predictions(
            project=project, actor=lead, model="ours", class_ids=class_ids,
            image_ids=[*image_ids(images), 10**9], rows=[row] * (MANY + 1),
        )  # fmt: skip
        model = ExternalModel.objects.get()
        services.delete_predictions(project=project, actor=lead, model=model)

    assert (stored.n_created, stored.n_updated, stored.unknown) == (MANY, 0, [MANY])
    assert model.n_images == MANY
    assert sum(sizes) > 2 * MANY
    assert max(sizes) <= MOST_ROWS
    assert not Prediction.objects.exists()


def test_answers_are_forgotten_a_few_rows_at_a_time(project):
    StoredAnswer.objects.bulk_create(
        StoredAnswer(
            user=project.created_by, key=str(number), request="r", request_hash="h",
            started_at=now() - timedelta(days=2),
        )
        for number in range(MANY)
    )  # fmt: skip

    with rows_written() as sizes:
        housekeeping.keep_house(now=now())

    assert not StoredAnswer.objects.exists()
    assert max(sizes) <= MOST_ROWS


def test_the_constants_that_bound_a_transaction_are_small():
    assert rankings.INSERT_AT_ONCE <= MOST_ROWS
    assert embedding.SLICE <= MOST_ROWS
    # Of an image: its label, the withdrawal, its status and its place; two more for all.
    assert 4 * labeling.AT_ONCE + 10 <= MOST_ROWS
