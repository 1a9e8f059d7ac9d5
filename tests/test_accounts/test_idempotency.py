import threading
from datetime import timedelta

import pytest
from api_kit import api_routes, body_for, fill, headers_for, values_for
from django.db import connection
from django.urls import reverse
from factories import make_images, make_member, make_project, make_ranking, make_user, now

from annotator.accounts.models import ApiToken, Invitation, Role
from annotator.api import services
from annotator.api.models import StoredAnswer
from annotator.events.models import Event
from annotator.labeling.models import LabelClass, Project
from annotator.labeling.services import ClassSpec, add_class
from workqueue.housekeeping import keep_house

pytestmark = pytest.mark.django_db

WRITES = [
    (method, route)
    for route in api_routes()
    for method in route.methods
    if method not in {"get", "head"} and route.view.answers_once
]


@pytest.mark.parametrize(
    ("method", "route"), WRITES, ids=[f"{method} {route.name}" for method, route in WRITES]
)
def test_every_write_sent_twice_with_one_key_is_done_once(client_of, method, route):
    project = fill(make_project())
    lead = make_member(project, Role.LEAD)
    where = route.address(values_for(route, lead, project))
    body = body_for(method, route, lead, project)
    headers = {**headers_for(method, route), "Idempotency-Key": "k"}
    client = client_of(lead)

    def send():
        return getattr(client, method)(where, body, "json", headers=headers)

    first = send()
    after_first = Event.objects.count()
    second = send()

    assert first.status_code < 300
    assert "Idempotency-Replayed" not in first
    assert second.status_code == first.status_code
    assert second["Idempotency-Replayed"] == "true"
    assert Event.objects.count() == after_first
    secret = set(route.view.secret_fields) if method == "post" else set()
    if first.content:
        shown, again = first.json(), second.json()
        assert {n: v for n, v in again.items() if n not in secret} == {
            n: v for n, v in shown.items() if n not in secret
        }
        assert all(shown[name] and again[name] is None for name in secret)


IN_STEPS = [(method, route) for method, route in WRITES if method in route.view.in_steps]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "route"), IN_STEPS, ids=[f"{method} {route.name}" for method, route in IN_STEPS]
)
def test_a_write_in_steps_is_in_no_transaction_of_ours_and_can_be_sent_again_after_a_crash(
    client_of, monkeypatch, method, route
):
    project = fill(make_project())
    lead = make_member(project, Role.LEAD)
    where = route.address(values_for(route, lead, project))
    body = body_for(method, route, lead, project)
    client = client_of(lead)
    client.raise_request_exception = False
    was_in_one, n_before = [], Event.objects.count()

    def crash(*_, **__):
        was_in_one.append(connection.in_atomic_block)
        raise RuntimeError

    def send():
        return getattr(client, method)(where, body, "json", headers={"Idempotency-Key": "k"})

    with monkeypatch.context() as patch:
        patch.setattr(services, "keep_answer", crash)
        assert send().status_code == 500

    assert was_in_one == [False]
    assert Event.objects.count() > n_before
    again = send()
    assert again.status_code < 300 or again.json()["code"] == "not-found"


def post(client, body, key="k", **headers):
    where = reverse("api:projects")
    return client.post(where, body, "json", headers={"Idempotency-Key": key, **headers})


def test_a_key_is_for_one_body_and_another_persons_key_is_another_key(client_of):
    ada, bob = client_of(make_user()), client_of(make_user())
    post(ada, {"name": "A", "kind": "one_class"})

    assert post(ada, {"kind": "one_class", "name": "A"})["Idempotency-Replayed"] == "true"
    other = post(ada, {"name": "B", "kind": "one_class"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert post(bob, {"name": "A", "kind": "one_class"}).status_code == 201
    assert post(ada, {"name": "A"}, key="other").status_code == 201
    assert Project.objects.count() == 3


def test_the_same_key_on_another_address_is_another_request(client_of):
    lead = make_user()
    client = client_of(lead)
    for _ in range(2):
        project = make_project(lead=lead)
        where = reverse("api:classes", args=[project.pk])
        made = client.post(where, {"name": "x"}, "json", headers={"Idempotency-Key": "k"})
        assert made.status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 81, "a\tb", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused(client_of, key):
    answer = post(client_of(make_user()), {"name": "A"}, key=key)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-invalid")
    assert not Project.objects.exists()


def test_a_refusal_is_not_stored_and_the_key_can_be_used_again(client_of):
    project = make_project()
    client = client_of(make_member(project, Role.LEAD))
    where = reverse("api:classes", args=[project.pk])
    headers = {"Idempotency-Key": "k"}

    refused = client.post(where, {"name": "cat"}, "json", headers=headers)
    LabelClass.objects.filter(project=project, name="cat").update(name="lion")
    done = client.post(where, {"name": "cat"}, "json", headers=headers)

    assert (refused.status_code, done.status_code) == (409, 201)


def test_a_crash_between_the_write_and_its_answer_leaves_neither(client_of, monkeypatch):
    client = client_of(make_user())
    client.raise_request_exception = False

    def crash(*_, **__):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(services, "keep_answer", crash)
        assert post(client, {"name": "A"}).status_code == 500

    assert not Project.objects.exists()
    assert post(client, {"name": "A"}).status_code == 201


def begin(user, *, age=timedelta(0)):
    return services.begin_answer(
        user=user, key="k", request="POST /", request_hash="h", now=now() - age
    )


def test_while_a_request_is_worked_on_the_same_one_is_told_to_come_again(client_of):
    user = make_user()
    project = make_project(lead=user)
    where = reverse("api:classes", args=[project.pk])
    client = client_of(user)
    client.post(where, {"name": "x"}, "json", headers={"Idempotency-Key": "k"})
    StoredAnswer.objects.update(status=None, started_at=now())

    answer = client.post(where, {"name": "x"}, "json", headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
    assert answer["Retry-After"]


def test_a_request_whose_worker_died_is_taken_over_and_the_dead_one_can_store_nothing():
    user = make_user()
    dead = begin(user, age=services.TAKEN_OVER_AFTER * 2)
    taken = begin(user)

    assert taken.status is None
    with pytest.raises(services.AnswerInProgressError):
        services.keep_answer(dead, status=201, body={}, headers={})
    services.drop_answer(dead)
    services.keep_answer(taken, status=201, body={"id": 1}, headers={})
    assert begin(user).body == {"id": 1}


def test_what_is_shown_once_is_nowhere_in_the_database(client_of):
    user = make_user()
    project = make_project(lead=user)
    client = client_of(user)
    headers = {"Idempotency-Key": "k"}

    token = client.post("/api/v1/tokens/", {"name": "n"}, "json", headers=headers).json()["token"]
    where = reverse("api:invitations", args=[project.pk])
    url = client.post(where, {}, "json", headers=headers).json()["url"]

    stored = str(list(StoredAnswer.objects.values()))
    assert token not in stored
    assert url not in stored
    assert ApiToken.objects.count() == Invitation.objects.count() == 1


def test_stored_answers_are_forgotten_after_a_day(client_of):
    user = make_user()
    post(client_of(user), {"name": "A"})

    keep_house(now=now() + timedelta(hours=23))
    assert StoredAnswer.objects.exists()
    keep_house(now=now() + timedelta(hours=25))
    assert not StoredAnswer.objects.exists()


def test_a_submit_keeps_its_own_keys(client_of):
    project = make_project()
    make_ranking(project, make_images(project, 3))
    client = client_of(make_member(project))
    headers = {"Idempotency-Key": "k"}
    claimed = client.post(reverse("api:claim", args=[project.pk]), {}, "json").json()
    cat = project.classes.first().pk
    body = {"lease": claimed["leases"][0]["token"], "class_ids": [cat]}
    where = reverse("api:submit", args=[project.pk])

    answers = [client.post(where, body, "json", headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert not StoredAnswer.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_same_request_at_the_same_time_is_done_once(client_of):
    lead = make_user()
    project = make_project(lead=lead)
    client = client_of(lead)
    where = reverse("api:classes", args=[project.pk])
    statuses = []
    start = threading.Barrier(4)

    def send():
        start.wait()
        answer = client_of(lead).post(
            where, {"name": "x"}, "json", headers={"Idempotency-Key": "k"}
        )
        statuses.append(answer.status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert project.classes.filter(name="x").count() == 1
    assert Event.objects.filter(kind="class.added").count() == 1
    again = client.post(where, {"name": "x"}, "json", headers={"Idempotency-Key": "k"})
    assert again.status_code == 201
    with pytest.raises(Exception, match="two classes"):
        add_class(project=project, actor=lead, spec=ClassSpec("x"))
