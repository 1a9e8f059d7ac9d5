"""Models as files: what they compute elsewhere is what they compute here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from django.conf import settings
from django.urls import reverse
from factories import class_of, make_member, make_project
from safetensors.numpy import load, save

from annotator.accounts.models import Role
from annotator.labeling import services as labeling
from ml import heads
from workqueue import model_downloads
from workqueue.models import ModelVersion, QueueState
from workqueue.requests import state_of

pytestmark = pytest.mark.django_db

DIM, N_CLASSES = 6, 3
KINDS = ["one_class", "several_classes"]


@pytest.fixture(autouse=True)
def models_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "MODELS_ROOT", tmp_path)


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def reviewer(project, client_of):
    return client_of(make_member(project, Role.REVIEWER))


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def logistic(kind, seed=1):
    return heads.LogisticHead(
        some(N_CLASSES, DIM, seed=seed), some(N_CLASSES, seed=seed + 1), some(DIM, seed=seed + 2),
        scale=0.7, temperature=1.0, kind=kind,
    )  # fmt: skip


def mlp(kind):
    return heads.MlpHead(
        some(5, DIM, seed=4), some(5, seed=5), some(N_CLASSES, 5, seed=6), some(N_CLASSES, seed=7),
        some(DIM, seed=8), scale=1.3, kind=kind,
    )  # fmt: skip


def ensemble(kind):
    return heads.EnsembleHead(tuple(logistic(kind, seed) for seed in (10, 20, 30)), kind=kind)


SORTS = {"logistic": logistic, "mlp": mlp, "ensemble": ensemble}


def stored(project, head, **fields):
    number = project.model_versions.count() + 1
    folder = f"{project.pk}/{number}"
    class_ids = list(project.classes.values_list("pk", flat=True))
    sha256 = heads.save_head(head, settings.MODELS_ROOT / folder, {"class_ids": class_ids})
    return ModelVersion.objects.create(
        project=project, number=number, backbone="efficientnet_lite0@2", class_ids=class_ids,
        folder=folder, sha256=sha256, n_labels=20, **fields,
    )  # fmt: skip


def download(client, model, headers=None, **query):
    where = reverse("api:model_download", args=[model.project_id, model.pk])
    return client.get(where, query, headers=headers or {})


def content(answer):
    assert answer.status_code == 200, answer.content
    assert answer.streaming
    return b"".join(answer.streaming_content)


def test_every_sort_of_head_there_is_can_be_sent():
    assert set(SORTS) == set(heads.HEADS)
    assert model_downloads.FORMAT == heads.FORMAT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_onnx_gives_the_probabilities_of_the_head(project, reviewer, sort, kind, temperature):
    head = SORTS[sort](kind).calibrated(temperature)
    model = stored(project, head)

    graph = onnxruntime.InferenceSession(content(download(reviewer, model, format="onnx")))

    embeddings = np.concatenate([some(40, DIM, seed=9), 30 * some(3, DIM, seed=11)])
    (found,) = graph.run(["probabilities"], {"embeddings": embeddings})
    assert found.shape == (43, N_CLASSES)
    np.testing.assert_allclose(found, head.probabilities(embeddings), atol=2e-6)
    (one,) = graph.run(["probabilities"], {"embeddings": embeddings[:1]})
    np.testing.assert_allclose(one, found[:1], atol=1e-6)


def test_both_files_say_of_which_classes_and_which_backbone_they_are(project, reviewer):
    model = stored(project, logistic("one_class").calibrated(2.5))

    graph = onnxruntime.InferenceSession(content(download(reviewer, model, format="onnx")))
    file = content(download(reviewer, model))

    length = int.from_bytes(file[:8], "little")
    for about in (
        json.loads(file[8 : 8 + length])["__metadata__"],
        graph.get_modelmeta().custom_metadata_map,
    ):
        assert json.loads(about["class_ids"]) == model.class_ids
        assert json.loads(about["class_names"]) == ["cat", "dog", "bird"]
        assert (about["backbone"], about["model"]) == ("efficientnet_lite0@2", "1")
        assert (about["head"], about["kind"]) == ("logistic", "one_class")
        assert (about["temperature"], about["training"]) == ("2.5", "head")


def test_safetensors_hold_the_parameters_as_they_are_stored(project, reviewer):
    head = mlp("several_classes")
    model = stored(project, head)

    arrays = load(content(download(reviewer, model, format="safetensors")))

    assert set(arrays) == set(head.arrays())
    for name, array in head.arrays().items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_a_download_has_a_name_and_a_version(project, reviewer):
    model = stored(project, logistic("one_class"))

    answer = download(reviewer, model, format="onnx")
    name = f'attachment; filename="project-{project.pk}-model-1.onnx"'
    assert answer["Content-Disposition"] == name
    assert int(answer["Content-Length"]) == len(content(answer))

    seen = {"If-None-Match": answer["ETag"]}
    assert download(reviewer, model, seen, format="onnx").status_code == 304
    assert download(reviewer, model, seen).status_code == 200
    labeling.update_class(
        label_class=class_of(project), actor=project.created_by, changes={"name": "tiger"}
    )
    assert download(reviewer, model, seen, format="onnx").status_code == 200


def test_a_torn_model_is_not_sent(project, reviewer):
    model = stored(project, logistic("one_class"))
    path = settings.MODELS_ROOT / model.folder / "model.safetensors"
    arrays = load(path.read_bytes())
    path.write_bytes(save(arrays | {"bias": arrays["bias"] + 1}))

    answer = download(reviewer, model, format="onnx")

    assert (answer.status_code, answer.json()["code"]) == (409, "model-unusable")
    assert "is not as it was saved" in answer.json()["detail"]


def test_a_model_in_another_format_is_not_sent(project, reviewer):
    model = stored(project, logistic("one_class"))
    path = settings.MODELS_ROOT / model.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))

    answer = download(reviewer, model)

    assert (answer.status_code, answer.json()["code"]) == (409, "model-unusable")


@pytest.mark.parametrize("what", ["pickle", "", "json"])
def test_another_format_is_refused(project, reviewer, what):
    answer = download(reviewer, stored(project, logistic("one_class")), format=what)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/format"


def test_a_model_is_shown_with_its_figures(project, reviewer, client_of):
    metrics = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}}
    first = stored(project, logistic("one_class"), metrics=metrics)
    second = stored(project, logistic("one_class", seed=50))
    state_of(project)
    QueueState.objects.filter(project=project).update(model_version=second)

    shown = reviewer.get(reverse("api:model", args=[project.pk, first.pk])).json()

    assert (shown["id"], shown["number"], shown["is_in_use"]) == (first.pk, 1, False)
    assert (shown["metrics"], shown["class_ids"]) == (metrics, first.class_ids)
    annotator = client_of(make_member(project))
    in_use = annotator.get(reverse("api:model", args=[project.pk, second.pk])).json()
    assert in_use["is_in_use"] is True


def test_a_model_is_sent_to_reviewers_of_its_project_alone(project, client_of):
    model = stored(project, logistic("one_class"))
    other = make_project()
    stranger = client_of(other.created_by)

    assert download(client_of(make_member(project)), model).status_code == 403
    assert download(stranger, model).status_code == 404
    foreign = reverse("api:model_download", args=[other.pk, model.pk])
    assert stranger.get(foreign).status_code == 404
    assert stranger.get(reverse("api:model", args=[other.pk, model.pk])).status_code == 404


def test_sending_a_model_needs_no_torch():
    code = (
        "import django, sys; django.setup(); import annotator.urls\n"
        "import numpy as np\n"
        "from workqueue.model_downloads import StoredHead, as_onnx, as_safetensors\n"
        "arrays = {'weights': np.ones((2, 3), 'f4'), 'bias': np.ones(2, 'f4'),"
        " 'mean': np.ones(3, 'f4'), 'scale': np.ones(1)}\n"
        "head = StoredHead('logistic', 'one_class', 1.0, arrays, {'a': 'b'})\n"
        "assert as_onnx(head) and as_safetensors(head)\n"
        "print([name for name in ('torch', 'onnxruntime', 'ml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        env={"DJANGO_SETTINGS_MODULE": "annotator.settings_test", "PATH": ""},
    )

    assert done.stdout.strip() == "[]", done.stderr
