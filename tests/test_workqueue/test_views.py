import uuid

import pytest
from django.urls import reverse
from factories import (
    class_of,
    make_images,
    make_member,
    make_project,
    make_ranking,
    make_user,
    now,
)

from annotator.accounts.models import Role
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image
from workqueue.models import Lease, ModelVersion, QueueSettings, Round

pytestmark = pytest.mark.django_db


def address(name, project, *more):
    return reverse(f"api:{name}", args=[project.pk, *more])


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 5))
    return project


def test_a_person_claims_submits_and_undoes_over_http(project, client_of):
    client = client_of(make_member(project))

    claimed = client.post(address("claim", project), {"n": 2}, format="json").json()
    lease = claimed["leases"][0]
    body = {"lease": lease["token"], "class_ids": [class_of(project).pk], "seconds": 1.5}
    key = uuid.uuid4().hex
    first = client.post(
        address("submit", project), body, format="json", headers={"Idempotency-Key": key}
    )
    again = client.post(
        address("submit", project), body, format="json", headers={"Idempotency-Key": key}
    )

    assert lease["why"]["position"] == 1
    assert first.status_code == 201
    assert again.status_code == 200
    assert first.json()["annotation"] == again.json()["annotation"]
    assert first.json()["status"]["n_labelled"] == 1
    undone = client.post(
        address("undo", project), {"annotation": first.json()["annotation"]["id"]}, format="json"
    )
    assert undone.json()["lease"]["image"]["id"] == lease["image"]["id"]
    assert undone.json()["status"]["n_labelled"] == 0


def test_a_label_that_cannot_be_used_is_answered_with_what_is_gone(project, client_of):
    client = client_of(make_member(project))
    leases = client.post(address("claim", project), {"n": 2}, format="json").json()["leases"]
    owner, cat, dog = project.created_by, class_of(project), class_of(project, "dog")
    image = Image.objects.get(pk=leases[0]["image"]["id"])
    labeling.delete_image(image=image, actor=owner, now=now())
    labeling.delete_class(label_class=cat, actor=owner, now=now())

    messages = [
        client.post(
            address("submit", project),
            {"lease": lease["token"], "class_ids": [label_class.pk], "key": uuid.uuid4().hex},
            format="json",
        ).json()["message"]
        for lease, label_class in zip(leases, (dog, cat), strict=True)
    ]

    assert messages[0].startswith("The image was deleted meanwhile")
    assert messages[1].startswith("The class “cat” was deleted meanwhile")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"class_ids": []}, 422, "invalid-classes"),
        ({"class_ids": [10**9]}, 422, "invalid-classes"),
        ({"class_ids": "cat"}, 400, "validation-error"),
        ({"lease": str(uuid.uuid4())}, 404, "lease-unknown"),
        ({"lease": "nonsense"}, 400, "validation-error"),
        ({"surprise": 1}, 400, "validation-error"),
        ({"seconds": -1}, 400, "validation-error"),
        ({"seconds": "long"}, 400, "validation-error"),
    ],
)
def test_a_bad_submit_is_refused_with_a_problem_and_nothing_is_written(
    project, client_of, change, status, code
):
    client = client_of(make_member(project))
    lease = client.post(address("claim", project), {}, format="json").json()["leases"][0]
    body = {"lease": lease["token"], "class_ids": [class_of(project).pk]} | change

    answer = client.post(
        address("submit", project), body, format="json", headers={"Idempotency-Key": "k"}
    )

    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert not Annotation.objects.exists()


def test_a_submit_without_a_key_is_told_to_send_one(project, client_of):
    client = client_of(make_member(project))
    lease = client.post(address("claim", project), {}, format="json").json()["leases"][0]

    answer = client.post(
        address("submit", project),
        {"lease": lease["token"], "class_ids": [class_of(project).pk]},
        format="json",
    )

    assert answer.json()["code"] == "idempotency-key-missing"


@pytest.mark.parametrize(
    "body",
    [
        '{"n": 1, "client": "\\ud800"}',
        '{"n": 1, "client": "a\\u0000b"}',
        "[" * 100_000 + "]" * 100_000,
        '{"n": NaN}',
        '{"n": 1, "n": 2}',
        '{"n": ' + "9" * 400 + "}",
        "{",
        "\xff",
    ],
)
def test_poisonous_json_is_a_400_and_never_a_500(project, client_of, body):
    client = client_of(make_member(project))

    answer = client.generic(
        "POST", address("claim", project), body.encode("latin-1"), content_type="application/json"
    )

    assert answer.status_code == 400


def test_another_persons_lease_cannot_be_used(project, client_of):
    holder, other = make_member(project), make_member(project)
    lease = client_of(holder).post(address("claim", project), {}, format="json").json()["leases"][0]

    for action in ("heartbeat", "release", "skip"):
        answer = client_of(other).post(address(action, project, lease["token"]), {}, format="json")
        assert answer.status_code == 404

    assert Lease.objects.get(token=lease["token"]).state == Lease.State.LIVE


ROUTES = [
    ("get", "status", Role.ANNOTATOR),
    ("post", "claim", Role.ANNOTATOR),
    ("get", "queue_settings", Role.ANNOTATOR),
    ("patch", "queue_settings", Role.LEAD),
    ("get", "settings_history", Role.REVIEWER),
    ("get", "ranking", Role.REVIEWER),
    ("get", "leases", Role.LEAD),
    ("post", "release_person", Role.LEAD),
    ("get", "predictions", Role.REVIEWER),
    ("put", "predictions", Role.LEAD),
    ("get", "external_models", Role.ANNOTATOR),
    ("get", "rounds", Role.ANNOTATOR),
    ("post", "rounds", Role.LEAD),
    ("get", "metrics", Role.ANNOTATOR),
    ("get", "images", Role.ANNOTATOR),
    ("post", "images", Role.LEAD),
    ("get", "my_annotations", Role.ANNOTATOR),
    ("get", "project", Role.ANNOTATOR),
    ("patch", "project", Role.LEAD),
    ("delete", "project", Role.LEAD),
    ("get", "classes", Role.ANNOTATOR),
    ("post", "classes", Role.LEAD),
    ("get", "members", Role.REVIEWER),
    ("get", "invitations", Role.LEAD),
    ("post", "invitations", Role.LEAD),
    ("get", "events", Role.REVIEWER),
    ("post", "known", Role.LEAD),
    ("post", "uploads", Role.LEAD),
    ("get", "imports", Role.LEAD),
    ("get", "webhooks", Role.LEAD),
    ("post", "webhooks", Role.LEAD),
]


@pytest.mark.parametrize(("method", "name", "needed"), ROUTES)
def test_each_route_asks_for_its_role(project, client_of, method, name, needed):
    people = {role: client_of(make_member(project, role)) for role in Role}
    stranger = client_of(make_user())
    where = address(name, project)

    assert getattr(stranger, method)(where, {}, format="json").status_code == 404
    for role in [role for role in Role if role < needed]:
        assert getattr(people[role], method)(where, {}, format="json").status_code == 403
    # An empty body may be refused for what is in it, but not for who sends it.
    kind = "multipart" if name == "images" else "json"
    assert getattr(people[needed], method)(where, {}, format=kind).status_code not in {
        401,
        403,
        404,
    }


def test_without_a_login_the_api_answers_401_in_problem_json(project, client):
    answer = client.get(address("status", project))

    assert answer.status_code == 401
    assert answer.json()["code"] == "not-authenticated"
    assert answer["WWW-Authenticate"] == "Bearer"


def test_an_unknown_api_address_is_a_problem_too(project, client_of):
    answer = client_of(make_user()).get("/api/v1/nonsense/")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


def test_settings_are_changed_by_leads_checked_and_versioned(project, client_of):
    lead = client_of(make_member(project, Role.LEAD))
    where = address("queue_settings", project)
    shown = lead.get(where)

    changed = lead.patch(
        where, {"heuristic": "entropy", "batch_size": 5}, format="json",
        headers={"If-Match": shown["ETag"]},
    )  # fmt: skip

    assert changed.json()["heuristic"] == "entropy"
    stale = lead.patch(where, {"batch_size": 6}, format="json", headers={"If-Match": shown["ETag"]})
    assert stale.status_code == 412
    for bad in (
        {"heuristic": "magic"},
        {"batch_size": 0},
        {"exploration_share": 1.5},
        {"lease_minutes": 0},
        {"budget_kind": "percent", "budget_value": 101},
        {"budget_value": 0},
        {"batch": 3},
    ):
        assert lead.patch(where, bad, format="json").status_code == 400, bad
    history = lead.get(address("settings_history", project)).json()["results"]
    assert history[0]["changes"] == {"heuristic": ["auto", "entropy"], "batch_size": [20, 5]}


def test_a_round_is_started_once_and_a_second_request_names_the_first(project, client_of):
    lead = client_of(make_member(project, Role.LEAD))

    first = lead.post(address("rounds", project), {}, format="json")
    second = lead.post(address("rounds", project), {}, format="json")

    assert first.status_code == 201
    assert second.status_code == 409
    assert second.json()["round"]["id"] == first.json()["id"]
    assert Round.objects.count() == 1


def test_the_status_is_not_sent_again_while_nothing_changes(project, client_of):
    client = client_of(make_member(project))
    first = client.get(address("status", project))

    again = client.get(address("status", project), headers={"If-None-Match": first["ETag"]})

    assert again.status_code == 304
    client.post(address("claim", project), {}, format="json")
    changed = client.get(address("status", project), headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200


def test_claiming_takes_the_same_number_of_queries_for_one_and_for_many_images(
    client_of, django_assert_max_num_queries
):
    for n in (3, 60):
        project = make_project()
        make_ranking(project, make_images(project, n))
        client = client_of(make_member(project))
        client.post(address("claim", project), {}, format="json")

        with django_assert_max_num_queries(32):
            client.post(address("claim", project), {"n": 3, "client": "b"}, format="json")


def test_an_explored_image_carries_no_guess(project, client_of):
    ranked = project.rankings.get().positions.get(position=1)
    ranked.explored, ranked.draw_probability = True, 0.2
    ranked.top_classes = [[class_of(project).pk, 0.9]]
    ranked.save()

    answer = client_of(make_member(project)).post(address("claim", project), {}, format="json")

    lease = answer.json()["leases"][0]
    assert lease["suggestion"] is None
    assert lease["why"]["top_classes"] == []
    assert lease["why"]["explored"]
    assert lease["why"]["draw_probability"] == 0.2


def test_a_ranked_image_carries_the_models_guess_and_why(project, client_of):
    cat, dog = class_of(project, "cat"), class_of(project, "dog")
    ranked = project.rankings.get().positions.get(position=1)
    ranked.top_classes = [[cat.pk, 0.5], [dog.pk, 0.4]]
    ranked.save()

    answer = client_of(make_member(project)).post(address("claim", project), {}, format="json")

    lease = answer.json()["leases"][0]
    assert lease["suggestion"] == {"class_ids": [cat.pk], "probability": 0.5}
    assert "between cat (50%) and dog (40%)" in lease["why"]["sentence"]


def test_a_lead_tries_failed_background_work_again(project, client_of):
    lead = make_member(project, Role.LEAD)
    failed = Job.objects.create(kind="embed", queue="embed", project=project, state="failed")

    first = client_of(lead).post(address("job_retry", project, failed.pk))
    annotator = client_of(make_member(project)).post(address("job_retry", project, failed.pk))
    done = Job.objects.create(kind="import", queue="ingest", project=project, state="done")
    refused = client_of(lead).post(address("job_retry", project, done.pk))

    assert first.status_code == 202
    assert Job.objects.filter(kind="embed", state="queued").count() == 1
    assert annotator.status_code == 403
    assert (refused.status_code, refused.json()["code"]) == (409, "job-not-failed")


def test_the_progress_page_draws_the_curve_for_wide_and_narrow_screens(project, client_of):
    measured = {"accuracy": {"value": 0.8, "low": 0.6, "high": 0.9, "n": 20}}
    model = ModelVersion.objects.create(
        project=project, number=1, backbone="b", class_ids=[], folder="x", sha256="", n_labels=40
    )
    for number in (1, 2):
        Round.objects.create(
            project=project, number=number, trigger="batch", state="done", n_labels=number * 20,
            metrics=measured, model_version=model,
        )  # fmt: skip

    page = client_of(make_member(project)).get(reverse("progress", args=[project.pk]))

    text = page.content.decode()
    assert text.count("40 labels: 80% (60% to 90%), measured on 20") == 2
    assert "chart-wide" in text
    assert "chart-narrow" in text


def test_a_skip_is_taken_back_over_http(project, client_of):
    client = client_of(make_member(project))
    lease = client.post(address("claim", project), {}, format="json").json()["leases"][0]
    client.post(address("skip", project, lease["token"]), {"reason": "unsure"}, format="json")

    back = client.post(address("unskip", project), {"lease": lease["token"]}, format="json")

    assert back.status_code == 200
    assert back.json()["lease"]["image"]["id"] == lease["image"]["id"]
    unknown = {"lease": "00000000-0000-0000-0000-000000000000"}
    assert client.post(address("unskip", project), unknown, format="json").status_code == 404
    assert client.post(address("unskip", project), {}, format="json").json() == {"n": 0}


def test_the_queue_page_says_when_the_next_ranking_is_made_with_other_settings(client):
    project = make_project()
    lead = make_member(project, Role.LEAD)
    ranking = make_ranking(project, make_images(project, 3))
    used = {"heuristic": "auto", "head": "logistic", "exploration_share": 0.1, "batch_size": 20}
    Round.objects.create(
        project=project, number=1, state="done", ranking=ranking, settings_used=used
    )
    QueueSettings.objects.create(project=project)
    client.force_login(lead)

    def said():
        page = client.get(reverse("queue_settings", args=[project.pk])).content.decode()
        return page.partition("The next ranking uses <b>")[2].partition("</b>")[0]

    assert said() == ""
    QueueSettings.objects.filter(project=project).update(batch_size=7)
    assert said() == ""
    QueueSettings.objects.filter(project=project).update(head="mlp")
    assert said() == "the settings saved since"
    QueueSettings.objects.filter(project=project).update(heuristic="badge")
    assert said() == "BADGE"
