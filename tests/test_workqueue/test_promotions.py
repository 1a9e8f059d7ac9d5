"""Going back to a former model: whole or not at all, and honest about what comes next."""

import json
import threading

import numpy as np
import pytest
from django.conf import settings
from django.db import connection
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_ranking, make_user, now
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.labeling.models import Image
from ml import heads
from workqueue import housekeeping, services
from workqueue.models import ModelVersion, QueueState, RankedImage, Round
from workqueue.requests import state_of

pytestmark = pytest.mark.django_db


def make_model(project, images):
    """Save a model with a round and a ranking of its own, as a round does, and let it be in use."""
    number = project.model_versions.count() + 1
    folder = f"{project.pk}/{number}"
    head = heads.LogisticHead(
        weights=np.eye(3, 4, dtype=np.float32),
        bias=np.zeros(3, np.float32),
        mean=np.zeros(4, np.float32),
        scale=1.0,
        kind="one_class",
        temperature=1.0,
    )
    class_ids = [entry.pk for entry in project.classes.all()]
    sha256 = heads.save_head(head, settings.MODELS_ROOT / folder, {"class_ids": class_ids})
    model = ModelVersion.objects.create(
        project=project, number=number, backbone="b", class_ids=class_ids, folder=folder,
        sha256=sha256, n_labels=10 * number,
    )  # fmt: skip
    ranking = make_ranking(project, images, model_version=model)
    Round.objects.create(
        project=project, number=number, trigger="batch", state=Round.State.DONE,
        model_version=model, ranking=ranking,
    )  # fmt: skip
    QueueState.objects.filter(project=project).update(model_version=model)
    return model


@pytest.fixture(autouse=True)
def models_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "MODELS_ROOT", tmp_path)


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def images(project):
    return make_images(project, 4)


@pytest.fixture
def first(project, images):
    return make_model(project, images)


@pytest.fixture
def second(project, images, first):
    return make_model(project, images[::-1])


@pytest.fixture
def lead(project, client_of):
    return client_of(make_member(project, Role.LEAD))


def promote(client, model):
    return client.post(reverse("api:model_promote", args=[model.project_id, model.pk]))


def best(project):
    (lease,) = services.claim(user=make_member(project), project=project, n=1, now=now()).leases
    return lease.image


def test_a_lead_goes_back_to_a_former_model_and_its_order_is_served(
    project, images, first, second, lead
):
    assert best(project) == images[3]

    answer = promote(lead, first)

    assert answer.status_code == 200
    assert "follows its ranking 1 again" in answer.json()["message"]
    assert "trains a new model from all labels" in answer.json()["message"]
    state = state_of(project)
    assert (state.model_version_id, state.ranking.model_version) == (first.pk, first)
    assert best(project) == images[0]
    listed = lead.get(reverse("api:models", args=[project.pk])).json()["results"]
    assert [(entry["number"], entry["is_in_use"]) for entry in listed] == [(2, False), (1, True)]
    event = Event.objects.get(kind="model.promoted")
    assert event.payload == {"model": 1, "before": 2, "ranking": 1}


def test_what_was_labelled_meanwhile_is_not_asked_again_and_what_was_reopened_has_its_place(
    project, images, first, second, lead
):
    RankedImage.objects.filter(ranking__model_version=first, image=images[1]).update(is_done=True)
    Image.objects.filter(pk=images[0].pk).update(status=Image.Status.LABELLED)

    promote(lead, first)

    marks = RankedImage.objects.filter(ranking__model_version=first).order_by("position")
    assert list(marks.values_list("is_done", flat=True)) == [True, False, False, False]
    assert best(project) == images[1]


def test_when_its_ranking_is_no_longer_kept_the_order_stays_and_the_answer_says_so(
    project, images, first, second, lead
):
    first.rankings.get().positions.all().delete()

    answer = promote(lead, first)

    assert "the present order stays until the next round" in answer.json()["message"]
    state = state_of(project)
    assert (state.model_version_id, state.ranking.model_version) == (first.pk, second)


def tear(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def forget_the_network(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"beside": {"network.safetensors": "0"}})
    )


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (tear, "model.safetensors is not as it was saved"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (forget_the_network, "network.safetensors is missing"),
    ],
)
def test_a_torn_or_missing_model_is_never_put_in_use(project, first, second, lead, harm, said):
    harm(settings.MODELS_ROOT / first.folder)

    answer = promote(lead, first)

    assert (answer.status_code, answer.json()["code"]) == (409, "model-unusable")
    assert said in answer.json()["detail"]
    assert state_of(project).model_version_id == second.pk
    assert not Event.objects.filter(kind="model.promoted").exists()


def test_a_model_that_is_in_use_is_not_flipped_to_again(project, first, second, lead):
    for _ in range(2):
        assert promote(lead, first).status_code == 200

    assert promote(lead, first).json()["message"] == "Model 1 is in use already."
    assert Event.objects.filter(kind="model.promoted").count() == 1


def test_only_leads_go_back_and_only_to_models_of_the_project(project, first, second, client_of):
    other = make_project()
    theirs = make_model(other, make_images(other, 1))
    lead = client_of(make_member(project, Role.LEAD))

    assert promote(client_of(make_member(project, Role.REVIEWER)), first).status_code == 403
    assert promote(client_of(make_user()), first).status_code == 404
    assert promote(lead, theirs).status_code == 404
    where = reverse("api:model_promote", args=[project.pk, theirs.pk])
    assert lead.post(where).status_code == 404
    assert state_of(project).model_version_id == second.pk


def test_the_progress_page_offers_leads_the_former_models(project, first, second, lead, client_of):
    page = lead.get(reverse("progress", args=[project.pk])).content.decode()
    others = client_of(make_member(project)).get(reverse("progress", args=[project.pk]))

    assert reverse("api:model_promote", args=[project.pk, first.pk]) in page
    assert reverse("api:model_promote", args=[project.pk, second.pk]) not in page
    assert "promote" not in others.content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_next_round_starts_from_all_labels_and_takes_over():
    project = make_project()
    images = make_images(project, 80)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    worker = make_member(project)
    for _ in range(2):
        label(project, worker, truth, 20)
        do_open_jobs()
    first = ModelVersion.objects.get(number=1)
    services.promote(model=first, actor=project.created_by)
    assert state_of(project).ranking.number == 1

    label(project, worker, truth, 20)
    do_open_jobs()

    state = state_of(project)
    assert (state.model_version.number, state.model_version.n_labels) == (3, 60)
    assert (state.ranking.number, state.ranking.model_version) == (3, state.model_version)
    housekeeping.keep_house(now=now())
    assert RankedImage.objects.filter(ranking__model_version=first).exists()


@pytest.mark.django_db(transaction=True)
def test_two_leads_who_go_back_at_the_same_instant_flip_once_each():
    project = make_project()
    images = make_images(project, 2)
    models = [make_model(project, images) for _ in range(3)]
    start = threading.Barrier(2)
    failures = []

    def go_back(model):
        try:
            start.wait()
            services.promote(model=model, actor=project.created_by)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=go_back, args=[model]) for model in models[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    flips = [event.payload for event in Event.objects.filter(kind="model.promoted").order_by("pk")]
    assert sorted(flip["model"] for flip in flips) == [1, 2]
    assert [flips[0]["before"], flips[1]["before"]] == [3, flips[0]["model"]]
    state = state_of(project)
    assert state.model_version.number == flips[1]["model"]
    assert state.ranking.model_version_id == state.model_version_id
    assert class_of(project).pk in state.model_version.class_ids
