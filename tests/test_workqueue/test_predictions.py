import numpy as np
import pytest
from django.urls import reverse
from factories import make_images, make_member, make_project, now
from load_kit import in_parallel
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.jobs.models import Job
from annotator.labeling.models import Project
from ml.heuristics import HEURISTICS
from workqueue import housekeeping, serializers, services
from workqueue.models import ExternalModel, Prediction, QueueSettings, Round
from workqueue.requests import request_round, state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def lead(project):
    return make_member(project, Role.LEAD)


def classes_of(project):
    return list(project.classes.values_list("pk", flat=True))


def put(client, project, said, **changes):
    """Post what a model says: image -> probabilities."""
    entries = [{"image": pk, "probabilities": values} for pk, values in said.items()]
    body = {"model": "ours", "class_ids": classes_of(project), "predictions": entries} | changes
    return client.put(reverse("api:predictions", args=[project.pk]), body, format="json")


def change(client, project, **changes):
    return client.patch(reverse("api:queue_settings", args=[project.pk]), changes, format="json")


def wavering(images):
    """Return predictions that are surer from image to image."""
    shares = np.linspace(0.4, 0.98, len(images))
    return {
        image.pk: [round(share, 6), round(1 - share, 6), 0.0]
        for image, share in zip(images, shares.tolist(), strict=True)
    }


def served(project):
    ranking = state_of(project).ranking
    return list(ranking.positions.order_by("position").values_list("image_id", flat=True))


def test_the_queue_follows_the_predictions_of_a_model_outside_without_a_single_label(
    project, lead, client_of
):
    images = make_images(project, 40)
    embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    said = wavering(images)

    answer = put(client, project, said)
    assert (answer.status_code, answer.json()) == (
        200,
        {"model": "ours", "created": 40, "updated": 0, "rejected": []},
    )
    changed = change(
        client,
        project,
        predictions_from="ours",
        heuristic="margin",
        exploration_share=0,
        spread_duplicates=False,
    )
    assert changed.status_code == 200, changed.json()
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    by_margin = sorted(said, key=lambda pk: abs(said[pk][0] - said[pk][1]))
    assert served(project) == by_margin
    claim = client.post(reverse("api:claim", args=[project.pk]), {"n": 1}, format="json")
    lease = claim.json()["leases"][0]
    assert lease["image"]["id"] == by_margin[0]
    assert lease["why"]["external_model"] == "ours"
    assert lease["why"]["model"] is None
    assert "ours wavers between" in lease["why"]["sentence"]
    first, second = lease["why"]["top_classes"][:2]
    assert {first["name"], second["name"]} == {"cat", "dog"}


@pytest.mark.parametrize(
    "heuristic", [name for name, entry in HEURISTICS.items() if entry.takes_predictions] + ["auto"]
)
def test_every_heuristic_that_can_ranks_by_predictions(project, lead, client_of, heuristic):
    images = make_images(project, 30)
    embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    put(client, project, wavering(images))

    assert change(client, project, predictions_from="ours", heuristic=heuristic).status_code == 200
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    newest = Round.objects.get()
    assert newest.state == Round.State.DONE
    assert newest.note.startswith("No model yet")
    assert newest.ranking.external_model == "ours"
    assert state_of(project).ranking.heuristic == (
        "diverse_margin" if heuristic == "auto" else heuristic
    )
    assert sorted(served(project)) == sorted(image.pk for image in images)


def test_images_without_a_prediction_follow_and_the_round_says_how_many(project, lead, client_of):
    images = make_images(project, 30)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    put(client, project, wavering(images[:20]))
    change(client, project, predictions_from="ours", heuristic="margin", exploration_share=0)

    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    assert set(served(project)) == {image.pk for image in images[:20]}
    assert "10 of 30 images have no prediction of ours" in Round.objects.get().note
    first = served(project)
    labelled = [lease.image_id for lease in label(project, lead, truth, 30)]
    assert labelled[:20] == first
    assert sorted(labelled) == [image.pk for image in images]


def test_images_somebody_has_begun_come_before_what_predictions_say(project, lead, client_of):
    images = make_images(project, 30)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    change(client, project, annotators_per_image=2, predictions_from="", exploration_share=0)
    begun = [lease.image_id for lease in label(project, make_member(project), truth, 3)]
    shares = np.linspace(0.51, 0.98, len(images)).round(6).tolist()
    said = {image.pk: [share, 1 - share, 0.0] for image, share in zip(images, shares, strict=True)}
    put(client, project, said)
    change(client, project, predictions_from="ours", heuristic="margin")

    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    by_margin = [pk for pk in said if pk not in begun]
    assert served(project) == [*begun, *by_margin]
    assert "prediction" not in Round.objects.get().note
    why = [lease.served["kind"] for lease in label(project, lead, truth, 4)]
    assert why[:3] == ["begun"] * 3
    assert why[3] != "begun"


def test_when_no_open_image_has_a_prediction_our_own_model_ranks(project, lead, client_of):
    images = make_images(project, 60)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    labelled = label(project, lead, truth, 20)
    put(client, project, wavering([lease.image for lease in labelled]))
    change(client, project, predictions_from="ours")

    do_open_jobs()

    newest = Round.objects.order_by("-number").first()
    assert "No open image has a prediction of ours" in newest.note
    assert newest.ranking.external_model == ""
    assert newest.ranking.model_version is not None


def test_new_predictions_start_a_round_when_the_queue_is_ordered_by_them(project, lead, client_of):
    images = make_images(project, 30)
    embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    put(client, project, wavering(images))
    assert not Round.objects.exists()
    change(client, project, predictions_from="ours", heuristic="margin", exploration_share=0)

    put(client, project, wavering(images[::-1]))
    # More arrives while that round waits: it is ranked with it, or right after.
    put(client, project, wavering(images[::-1]))
    do_open_jobs()

    rounds = Round.objects.all()
    assert {entry.trigger for entry in rounds} == {Round.Trigger.PREDICTIONS}
    assert state_of(project).predictions_since_round == 0
    assert not rounds.filter(state__in=["queued", "running"]).exists()
    assert served(project)[-1] == images[0].pk


def test_predictions_whose_round_was_lost_get_another_one(project, lead, client_of):
    images = make_images(project, 30)
    embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)
    put(client, project, wavering(images))
    change(client, project, predictions_from="ours", heuristic="margin", exploration_share=0)
    put(client, project, wavering(images[::-1]))
    # It ends without having seen them, and the worker dies before it asks for the next one.
    Round.objects.update(state=Round.State.DONE)
    Job.objects.update(state=Job.State.DONE)

    housekeeping.keep_house(now=now())
    do_open_jobs()

    assert served(project)[-1] == images[0].pk
    assert state_of(project).predictions_since_round == 0


def test_what_a_model_says_again_replaces_what_it_said(project, lead, client_of):
    images = make_images(project, 3)
    client = client_of(lead)
    put(client, project, wavering(images))

    again = put(client, project, {images[0].pk: [0, 0, 1]})

    assert (again.json()["created"], again.json()["updated"]) == (0, 1)
    address = reverse("api:predictions", args=[project.pk])
    (found,) = client.get(address, {"image": images[0].pk}).json()["results"]
    cat, dog, bird = map(str, classes_of(project))
    assert found["probabilities"] == {cat: 0.0, dog: 0.0, bird: 1.0}
    assert ExternalModel.objects.get().n_images == Prediction.objects.count() == 3
    kinds = Event.objects.filter(kind="predictions.stored")
    assert [event.payload for event in kinds] == [
        {"model": "ours", "n": 3},
        {"model": "ours", "n": 1},
    ]


def test_classes_in_another_order_and_new_classes_are_understood(project, lead, client_of):
    (image, other) = make_images(project, 2)
    client = client_of(lead)
    cat, dog, bird = classes_of(project)
    put(client, project, {image.pk: [0.7, 0.3]}, class_ids=[cat, dog])

    put(client, project, {other.pk: [0.5, 0.2, 0.3]}, class_ids=[bird, cat, dog])

    results = client.get(reverse("api:predictions", args=[project.pk])).json()["results"]
    said = {entry["image_id"]: entry["probabilities"] for entry in results}
    assert said[other.pk] == {str(cat): 0.2, str(dog): 0.3, str(bird): 0.5}
    assert said[image.pk] == {str(cat): 0.7, str(dog): 0.3}
    assert ExternalModel.objects.get().class_ids == [cat, dog, bird]


def test_an_image_of_another_project_is_rejected_and_the_others_are_stored(
    project, lead, client_of
):
    (mine,) = make_images(project, 1)
    (foreign,) = make_images(make_project(), 1)

    answer = put(client_of(lead), project, {foreign.pk: [1, 0, 0], mine.pk: [1, 0, 0]})

    assert answer.status_code == 200
    assert answer.json()["rejected"] == [
        {"pointer": "/predictions/0/image", "code": "image-unknown", "image": foreign.pk}
    ]
    assert list(Prediction.objects.values_list("image_id", flat=True)) == [mine.pk]


BAD = {
    "sum": ([0.5, 0.1, 0.1], "/predictions/0", "sum to 1, not to 0.7"),
    "above one": ([1.5, -0.5, 0], "/predictions/0", "from 0 to 1"),
    "too few": ([0.5, 0.5], "/predictions/0", "a list of 3 numbers"),
    "text": (["1", 0, 0], "/predictions/0", "from 0 to 1"),
    "true": ([True, 0, 0], "/predictions/0", "from 0 to 1"),
    "nothing": (None, "/predictions/0", "a list of 3 numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_probabilities_that_are_none_are_refused_with_their_place(project, lead, client_of, name):
    (image,) = make_images(project, 1)
    values, pointer, message = BAD[name]

    answer = put(client_of(lead), project, {image.pk: values})

    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert message in error["message"]
    assert not Prediction.objects.exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"class_ids": [1]}, "/class_ids"),
        ({"model": ""}, "/model"),
        ({"model": "a/b"}, "/model"),
        ({"predictions": []}, "/predictions"),
        ({"predictions": {}}, "/predictions"),
        ({"predictions": [{"image": 1}]}, "/predictions/0"),
        ({"predictions": [7]}, "/predictions/0"),
        ({"predictions": [{"image": 1, "probabilities": [1, 0, 0]}] * 2}, "/predictions/1"),
        ({"wrong": 1}, "/wrong"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_with_its_place(
    project, lead, client_of, changes, pointer
):
    answer = put(client_of(lead), project, {1: [1, 0, 0]}, **changes)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_class_of_another_project_is_refused(project, lead, client_of):
    (image,) = make_images(project, 1)
    foreign = classes_of(make_project())

    answer = put(client_of(lead), project, {image.pk: [1, 0, 0]}, class_ids=foreign)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-classes")
    assert not ExternalModel.objects.exists()


def test_with_several_classes_an_image_the_probabilities_need_not_sum_to_one(client_of):
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    lead = make_member(project, Role.LEAD)
    images = make_images(project, 20)
    embed(project, images, np.eye(3, DIM) * 3)
    client = client_of(lead)

    said = {image.pk: [0.9, 0.8, 0.01 * number] for number, image in enumerate(images)}
    assert put(client, project, said).status_code == 200
    change(client, project, predictions_from="ours", heuristic="margin", exploration_share=0)
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()

    assert served(project)[0] == images[-1].pk


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"predictions_from": "theirs"}, "/predictions_from"),
        ({"predictions_from": "ours", "heuristic": "bald"}, "/heuristic"),
        ({"predictions_from": "ours", "heuristic": "drop_query"}, "/heuristic"),
        ({"predictions_from": "ours", "training": "fine_tune"}, "/training"),
    ],
)
def test_settings_no_prediction_can_answer_are_refused(project, lead, client_of, changes, pointer):
    client = client_of(lead)
    put(client, project, wavering(make_images(project, 2)))

    answer = change(client, project, **changes)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert QueueSettings.objects.get().predictions_from == ""


def test_the_settings_and_the_registry_agree_on_who_asks_our_heads():
    assert {
        name for name, entry in HEURISTICS.items() if not entry.takes_predictions
    } == serializers.ASK_OUR_HEADS


def test_a_model_that_orders_the_queue_is_deleted_only_after_another_was_chosen(
    project, lead, client_of
):
    client = client_of(lead)
    put(client, project, wavering(make_images(project, 2)))
    change(client, project, predictions_from="ours")
    (listed,) = client.get(reverse("api:external_models", args=[project.pk])).json()["results"]
    assert (listed["n_images"], listed["orders_the_queue"]) == (2, True)
    where = reverse("api:external_model", args=[project.pk, listed["id"]])

    refused = client.delete(where)
    change(client, project, predictions_from="")
    deleted = client.delete(where)

    assert (refused.status_code, refused.json()["code"]) == (409, "model-in-use")
    assert deleted.status_code == 204
    assert not Prediction.objects.exists()
    assert client.get(where).status_code == 404


def test_two_tools_that_post_at_once_lose_nothing(project, lead, client_of):
    images = make_images(project, 80)

    def post(part):
        return lambda: services.put_predictions(
            project=project,
            actor=lead,
            model="ours",
            class_ids=classes_of(project),
            image_ids=[image.pk for image in part],
            rows=[np.array([1, 0, 0], "<f4").tobytes()] * len(part),
        )

    parts = [images[start : start + 10] for start in range(0, 80, 10)]
    stored = in_parallel(*map(post, parts), *map(post, parts))

    assert sum(entry.n_created for entry in stored) == 80
    assert sum(entry.n_updated for entry in stored) == 80
    assert ExternalModel.objects.get().n_images == Prediction.objects.count() == 80


def test_the_queue_page_offers_models_that_have_predictions(project, lead, client):
    client.force_login(lead)
    page = reverse("queue_settings", args=[project.pk])
    assert b"Ranked by" not in client.get(page).content

    services.put_predictions(
        project=project,
        actor=lead,
        model="ours <b>",
        class_ids=classes_of(project),
        image_ids=[image.pk for image in make_images(project, 1)],
        rows=[np.array([1, 0, 0], "<f4").tobytes()],
    )

    assert b"ours &lt;b&gt; (1 image)" in client.get(page).content


# --- Images by what the tool calls them ---------------------------------------------------------


def call(images, *names):
    for image, name in zip(images, names, strict=True):
        image.external_id = name
        image.save(update_fields=["external_id"])


def by_external_id(*names):
    return [{"external_id": name, "probabilities": [0.2, 0.3, 0.5]} for name in names]


def test_predictions_name_images_by_external_id(project, lead, client_of):
    images = make_images(project, 3)
    call(images, "a", "b", "")
    client = client_of(lead)
    entries = [*by_external_id("b", "a"), {"image": images[2].pk, "probabilities": [1, 0, 0]}]

    answer = put(client, project, {}, predictions=entries)

    assert answer.json() == {"model": "ours", "created": 3, "updated": 0, "rejected": []}
    where = reverse("api:predictions", args=[project.pk])
    (found,) = client.get(where, {"external_id": "b"}).json()["results"]
    assert (found["image_id"], found["external_id"]) == (images[1].pk, "b")


def test_external_ids_nobody_knows_are_rejected_and_the_others_stored(project, lead, client_of):
    (foreign,) = make_images(make_project(), 1)
    images = make_images(project, 2)
    call([foreign, *images], "foreign", "a", "gone")
    images[1].deleted_at = images[1].created_at
    images[1].save()

    answer = put(
        client_of(lead), project, {}, predictions=by_external_id("foreign", "a", "gone", "b")
    ).json()

    assert answer["created"] == 1
    assert answer["rejected"] == [
        {"pointer": f"/predictions/{at}/external_id", "code": "image-unknown", "external_id": name}
        for at, name in ((0, "foreign"), (2, "gone"), (3, "b"))
    ]


def test_an_image_named_in_two_ways_is_here_twice(project, lead, client_of):
    images = make_images(project, 2)
    call(images, "a", "")
    entries = [{"image": images[0].pk, "probabilities": [1, 0, 0]}, *by_external_id("a", "c", "c")]

    answer = put(client_of(lead), project, {}, predictions=entries)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        "/predictions/1",
        "/predictions/3",
    ]
    assert not Prediction.objects.exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"probabilities": [1, 0, 0]},
        {"image": 1, "external_id": "a", "probabilities": [1, 0, 0]},
        {"external_id": "", "probabilities": [1, 0, 0]},
        {"external_id": 1, "probabilities": [1, 0, 0]},
        {"external_id": "x" * 201, "probabilities": [1, 0, 0]},
        {"external_id": ["a"], "probabilities": [1, 0, 0]},
    ],
)
def test_an_entry_names_its_image_in_one_way(project, lead, client_of, entry):
    answer = put(client_of(lead), project, {}, predictions=[entry])

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/predictions/0"
