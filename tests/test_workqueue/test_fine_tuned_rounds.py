import numpy as np
import pytest
from django.conf import settings
from factories import class_of, make_images, make_member, make_project, now
from PIL import Image as Picture
from queue_kit import do_open_jobs, label
from tiny_backbone import SPEC, tiny_network

from annotator.accounts.models import Role
from annotator.jobs.models import Job
from annotator.labeling.models import Image
from ml import backbones, embedding_store, embeddings, fine_tuning
from workqueue import learning, rounds, services, simulation, training
from workqueue.heuristics import training_cost
from workqueue.learning import fine_tuning as project_fine_tuning
from workqueue.learning import store
from workqueue.models import Embedding, ModelVersion, QueueSettings, Round, Segment
from workqueue.requests import request_round, settings_of, state_of

pytestmark = pytest.mark.django_db(transaction=True)

FINE_TUNE = QueueSettings.Training.FINE_TUNE
COLOURS = {"cat": (190, 60, 60), "dog": (60, 190, 60), "bird": (60, 60, 190)}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(backbones, "load_network", lambda _: tiny_network())
    monkeypatch.setitem(backbones.BACKBONES, learning.BACKBONE, SPEC)


def thumbnail(image):
    return settings.MEDIA_ROOT / image.thumbnail_name


def draw(path, colour, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-90, 90, (40, 40, 3))
    Picture.fromarray((noise + np.array(colour)).clip(0, 255).astype(np.uint8)).save(path)


def embed(project, images):
    """Draw each image's thumbnail and embed it with the frozen network."""
    classes = list(project.classes.all())
    truth = {image.pk: classes[index % len(classes)] for index, image in enumerate(images)}
    for image in images:
        draw(thumbnail(image), COLOURS[truth[image.pk].name], image.pk)
    frozen = backbones.torch_backbone(SPEC, tiny_network(), "cpu")
    vectors = embeddings.embed_files([thumbnail(image) for image in images], frozen).vectors
    stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors)
    segment = Segment.objects.create(
        project=project, backbone=learning.BACKBONE, name=stored.name, n_rows=stored.rows,
        dim=stored.dim, sha256=stored.sha256,
    )  # fmt: skip
    Embedding.objects.bulk_create(
        Embedding(image=image, segment=segment, row=row) for row, image in enumerate(images)
    )
    return truth


def make_setting(**fields):
    project = make_project(**fields)
    truth = embed(project, make_images(project, 90))
    lead = make_member(project, Role.LEAD)
    change(
        project, lead, training=FINE_TUNE, budget_kind="number", budget_value=12,
        heuristic="margin", exploration_share=0.0, spread_duplicates=False,
    )  # fmt: skip
    return project, lead, truth


@pytest.fixture
def setting():
    return make_setting()


def change(project, lead, **changes):
    services.change_settings(project=project, actor=lead, changes=changes)


def rank_again(project):
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    return Round.objects.order_by("-number")[0]


@pytest.fixture
def seen(monkeypatch):
    """Names of the folders of all images a fine-tuned network has embedded."""
    found = []
    embed_files = embeddings.embed_files

    def spy(paths, backbone, **more):
        found.extend(path.parent.name for path in paths)
        return embed_files(paths, backbone, **more)

    monkeypatch.setattr(embeddings, "embed_files", spy)
    return found


@pytest.fixture
def trained_on(monkeypatch):
    """Names of the folders of the images each fine-tuning has learned from."""
    found = []
    fine_tune = fine_tuning.fine_tune

    def spy(network, spec, paths, *args, **more):
        found.append([path.parent.name for path in paths])
        return fine_tune(network, spec, paths, *args, **more)

    monkeypatch.setattr(fine_tuning, "fine_tune", spy)
    return found


def test_exactly_the_labels_and_the_candidates_of_the_budget_are_embedded_anew(setting, seen):
    project, user, truth = setting
    label(project, user, truth, 20)
    do_open_jobs()

    done = Round.objects.get()

    assert done.state == Round.State.DONE
    assert (done.n_labels, done.n_pool, done.n_candidates) == (20, 70, 12)
    folders = {
        status: {image.key.hex for image in project.images.filter(status=status)}
        for status in Image.Status.values
    }
    assert len(seen) == len(set(seen)) == 20 + 12
    assert folders["labelled"] <= set(seen)
    ranked = {entry.image.key.hex for entry in done.ranking.positions.select_related("image")}
    assert ranked == set(seen) & folders["open"]
    assert {"fine_tune", "embed_labelled", "embed_candidates"} <= set(done.seconds)
    label(project, user, truth, 20)


def test_the_order_is_that_of_the_fine_tuned_network_and_its_head(setting):
    project, user, truth = setting
    label(project, user, truth, 40)
    do_open_jobs()
    done = Round.objects.order_by("-number")[0]
    model = done.model_version

    ranked = list(done.ranking.positions.order_by("position").select_related("image"))
    vectors, _ = learning.embed_paths_with(model, [thumbnail(entry.image) for entry in ranked])
    probabilities = np.sort(learning.load_head(model).probabilities(vectors), axis=1)

    margins = 1 - (probabilities[:, -1] - probabilities[:, -2])
    scores = [entry.score for entry in ranked]
    assert model.training == FINE_TUNE
    assert scores == sorted(scores, reverse=True)
    assert np.allclose(scores, margins, atol=1e-3)
    assert all(len(entry.top_classes) == 3 for entry in ranked)


def test_images_drawn_at_random_outside_the_budget_are_served_without_a_guess(setting):
    project, user, truth = setting
    change(project, user, exploration_share=0.5)
    label(project, user, truth, 20)
    do_open_jobs()

    explored = Round.objects.get().ranking.positions.filter(explored=True)

    assert explored.count() >= 5
    assert any(entry.top_classes == [] for entry in explored)


def test_the_sample_is_held_out_of_network_and_head_and_measured_on(setting, trained_on):
    project, user, truth = setting
    change(project, user, batch_size=60, heuristic="random", exploration_share=1.0)
    label(project, user, truth, 60)
    labelled = learning.load_labelled(project, frame_before=0)
    held_out = set(labelled.image_ids[project_fine_tuning.held_out_of(labelled)].tolist())
    assert len(held_out) == 20
    assert held_out <= set(labelled.image_ids[labelled.measured].tolist())

    do_open_jobs()

    images = list(Image.objects.filter(pk__in=held_out))
    (learned_from,) = trained_on
    assert len(learned_from) == 40
    assert not {image.key.hex for image in images} & set(learned_from)
    done = Round.objects.get()
    vectors, _ = learning.embed_paths_with(done.model_version, [thumbnail(e) for e in images])
    said = learning.load_head(done.model_version).logits(vectors).argmax(axis=1)
    right = [
        done.model_version.class_ids[index] == truth[image.pk].pk
        for index, image in zip(said, images, strict=True)
    ]
    assert done.metrics["accuracy"]["n"] == 20
    assert done.metrics["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_too_few_random_images_are_learned_from_and_no_accuracy_is_shown(setting, trained_on):
    project, user, truth = setting
    label(project, user, truth, 12)
    rank_again(project)

    assert len(trained_on[0]) == 12
    done = Round.objects.order_by("-number")[0]
    assert done.metrics["accuracy"] is None
    assert done.metrics["fine_tuning"]["n_held_out"] == 0


def test_before_there_are_two_classes_the_frozen_network_serves_by_coverage(setting, seen):
    project, user, truth = setting
    label(project, user, dict.fromkeys(truth, class_of(project, "cat")), 20)
    do_open_jobs()

    done = Round.objects.get()

    assert done.model_version is None
    assert "only one class" in done.note
    assert done.ranking.kind == "coverage"
    assert seen == []


def test_a_failure_leaves_the_old_order_and_is_not_tried_again_for_as_long(setting, monkeypatch):
    project, user, truth = setting
    old = rank_again(project).ranking

    def fail(*_, **__):
        raise fine_tuning.FineTuningError("Fine-tuning went astray.")

    monkeypatch.setattr(fine_tuning, "fine_tune", fail)
    label(project, user, truth, 20)
    do_open_jobs()

    failed = Round.objects.order_by("-number")[0]
    assert (failed.state, failed.error) == (Round.State.FAILED, "Fine-tuning went astray.")
    assert Job.objects.get(pk=failed.job_id).attempt == 1
    assert state_of(project).ranking == old
    assert not ModelVersion.objects.exists()
    assert services.claim(user=user, project=project, n=1, now=now()).leases


def test_training_that_takes_too_long_ends_by_itself_with_a_word_of_advice(setting, monkeypatch):
    project, user, truth = setting
    monkeypatch.setattr(training, "TRAIN_WITHIN", 0.0)
    label(project, user, truth, 20)
    do_open_jobs()

    failed = Round.objects.get()

    assert failed.state == Round.State.FAILED
    assert "Train the head only" in failed.error


def test_candidates_there_is_no_time_for_are_left_out_and_the_round_says_so(setting, monkeypatch):
    project, user, truth = setting
    monkeypatch.setattr(project_fine_tuning, "SLICE", 5)
    embed_candidates = learning.embed_candidates

    def hurried(*args, go_on, **more):
        return embed_candidates(
            *args, go_on=lambda done, total: go_on(done, total) and done < 10, **more
        )

    monkeypatch.setattr(learning, "embed_candidates", hurried)
    label(project, user, truth, 20)
    do_open_jobs()

    done = Round.objects.get()
    assert done.state == Round.State.DONE
    assert done.ranking.n_positions == 10
    assert "Of 12 images the rank budget allows 10 were embedded anew" in done.note


def test_only_the_newest_networks_stay_on_disk_and_every_head_does(setting, monkeypatch):
    project, user, truth = setting
    monkeypatch.setattr(rounds, "NETWORKS_KEPT", 2)
    label(project, user, truth, 20)
    for _ in range(4):
        rank_again(project)

    folders = [
        settings.MODELS_ROOT / model.folder
        for model in ModelVersion.objects.filter(project=project).order_by("-number")
    ]

    has_network = [(folder / fine_tuning.NETWORK).exists() for folder in folders]
    assert has_network == [True, True] + [False] * (len(folders) - 2)
    assert len(folders) >= 4
    assert all((folder / "model.safetensors").exists() for folder in folders)


def test_files_that_cannot_be_read_any_more_stop_nothing(setting):
    project, user, truth = setting
    change(project, user, budget_kind="whole_pool")
    leases = label(project, user, truth, 19)
    thumbnail(leases[0].image).unlink()
    gone = project.images.filter(status="open").last()
    thumbnail(gone).write_bytes(b"no picture")
    label(project, user, {pk: truth[pk] for pk in truth if pk != gone.pk}, 1)
    do_open_jobs()

    done = Round.objects.get()

    assert done.state == Round.State.DONE
    assert done.metrics["fine_tuning"]["n_unreadable"] <= 1
    assert not done.ranking.positions.filter(image=gone).exists()
    assert "a file cannot be read" in done.note


def test_from_a_bucket_files_are_fetched_and_a_missing_one_is_found_missing(monkeypatch, tmp_path):
    class Bucket:
        def open(self, name):
            return (tmp_path / name).open("rb")

    monkeypatch.setattr(store, "default_storage", Bucket())
    (tmp_path / "there.jpg").write_bytes(b"content")
    folder = tmp_path / "fetched"
    folder.mkdir()

    there, missing = (store.local_file(name, folder) for name in ("there.jpg", "gone.jpg"))

    assert there.read_bytes() == b"content"
    assert there.parent == folder
    assert not missing.exists()


def test_back_to_the_head_alone_the_next_round_goes_on_with_the_frozen_embeddings(setting, seen):
    project, user, truth = setting
    label(project, user, truth, 20)
    do_open_jobs()
    seen.clear()

    change(project, user, training="head", budget_kind="whole_pool")
    label(project, user, truth, 20)
    do_open_jobs()

    done = Round.objects.order_by("-number")[0]
    assert done.state == Round.State.DONE
    assert done.model_version.training == "head"
    assert done.n_candidates == 50
    assert done.metrics["agreement"] is None
    assert seen == []
    pool = learning.load_pool(project, learning.load_begun(project))
    logits = learning.load_head(done.model_version).logits(pool.vectors(np.arange(len(pool))))
    said = [done.model_version.class_ids[index] for index in logits.argmax(axis=1)]
    right = [truth[pk].pk == said[row] for row, pk in enumerate(pool.image_ids.tolist())]
    assert np.mean(right) > 0.8


def test_several_classes_per_image_are_fine_tuned_too():
    project, user, truth = make_setting(kind="several_classes")
    label(project, user, truth, 40)
    do_open_jobs()

    done = Round.objects.order_by("-number")[0]

    assert done.state == Round.State.DONE
    assert done.n_candidates == 12
    assert done.model_version.training == FINE_TUNE


def test_the_test_set_of_a_simulation_is_embedded_with_the_models_own_network(setting, tmp_path):
    project, user, truth = setting
    label(project, user, truth, 40)
    do_open_jobs()
    model = Round.objects.order_by("-number")[0].model_version
    names = ["cat", "dog", "bird"] * 4
    paths = [tmp_path / f"{index}.png" for index in range(len(names))]
    for index, path in enumerate(paths):
        draw(path, COLOURS[names[index]], 1000 + index)
    vectors, _ = learning.embed_paths_with(model, paths)
    said = learning.load_head(model).logits(vectors).argmax(axis=1)
    classes = [project.classes.get(pk=model.class_ids[index]).name for index in said]

    of_nothing = np.zeros((len(names), SPEC.dim), np.float16)
    accuracy = simulation.true_accuracy(
        project, model, simulation.TestSet(paths, of_nothing, names)
    )

    assert accuracy == np.mean([a == b for a, b in zip(classes, names, strict=True)])


def test_a_lead_reads_what_a_round_will_cost_before_and_after_the_first(setting, client_of):
    project, user, truth = setting
    lead = client_of(user)
    where = f"/api/v1/projects/{project.pk}/queue/settings/"

    assert lead.patch(where, {"training": "magic"}, format="json").status_code == 400
    guessed = lead.get(where).json()["training_cost"]
    label(project, user, truth, 20)
    do_open_jobs()
    measured = lead.get(where).json()["training_cost"]
    page = lead.get(f"/projects/{project.pk}/queue/").content.decode()
    headed = lead.patch(where, {"training": "head"}, format="json").json()

    assert "embeds 12 images anew" in guessed
    assert "without a GPU" in guessed
    assert "going by round 1" in measured
    assert measured in page
    assert (headed["training"], headed["training_cost"]) == ("head", "")


def test_a_budget_of_a_large_pool_is_advised_against():
    config = settings_of(make_project())
    config.training = FINE_TUNE

    said = training_cost(config, n_labelled=300, n_pool=100_000, measured=None)

    assert "embeds 100,000 images anew" in said
    assert "a smaller one" in said
