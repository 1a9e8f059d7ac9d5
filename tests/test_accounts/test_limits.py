from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.urls import reverse
from factories import (
    class_of,
    make_images,
    make_label,
    make_member,
    make_project,
    make_ranking,
    make_user,
    now,
)
from rest_framework.test import APIClient

from annotator.accounts import services, throttling
from annotator.accounts.models import RateCount, Scope
from annotator.accounts.rates import STEPS, WINDOW_S, Rates
from workqueue.housekeeping import keep_house

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """A minute that does not end in the middle of a test."""
    monkeypatch.setattr(throttling.time, "time", lambda: 1_800_000_018.0)


@pytest.fixture
def limited(settings):
    def to(**limits):
        settings.REQUEST_RATES = {"api": 0, "browser": 0} | limits

    return to


def program_of(user) -> APIClient:
    made = services.create_token(user=user, name="t", now=now(), scope=Scope.MANAGE)
    return APIClient(headers={"Authorization": f"Bearer {made.secret}"})


def test_every_answer_says_what_is_left_and_the_one_too_many_when_to_come_back(limited):
    limited(api=3)
    program = program_of(make_user())

    answers = [program.get("/api/v1/me/") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit"] for answer in answers] == [
        f'"api";r={left};t=42' for left in (2, 1, 0, 0)
    ]
    assert answers[0]["RateLimit-Policy"] == f'"api";q=3;w={WINDOW_S}'
    assert answers[3]["Content-Type"] == "application/problem+json"
    assert answers[3].json()["code"] == "rate-limited"
    assert int(answers[3]["Retry-After"]) >= 42


def test_errors_count_and_carry_the_headers_too(limited):
    limited(api=1)
    program = program_of(make_user())

    assert program.get("/api/v1/projects/1/")["RateLimit"] == '"api";r=0;t=42'
    assert program.get("/api/v1/projects/1/").status_code == 429


def test_a_request_a_token_may_not_make_counts_too(limited):
    limited(api=1)
    made = services.create_token(user=make_user(), name="t", now=now(), scope=Scope.READ)
    reader = APIClient(headers={"Authorization": f"Bearer {made.secret}"})

    answers = [reader.post("/api/v1/projects/", {"name": "n"}, "json") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [403, 429]


def test_more_tokens_are_not_more_requests_and_other_people_are_not_slowed_down(limited):
    limited(api=2)
    user, other = make_user(), make_user()

    assert program_of(user).get("/api/v1/me/").status_code == 200
    assert program_of(user).get("/api/v1/me/").status_code == 200
    assert program_of(user).get("/api/v1/me/").status_code == 429
    assert program_of(other).get("/api/v1/me/").status_code == 200


def test_the_next_minute_starts_again(limited, monkeypatch):
    limited(api=1)
    program = program_of(make_user())
    for status in (200, 429):
        assert program.get("/api/v1/me/").status_code == status

    monkeypatch.setattr(throttling.time, "time", lambda: 1_800_000_061.0)

    assert program.get("/api/v1/me/").status_code == 200


def test_a_person_labeling_as_fast_as_they_can_is_never_stopped_and_costs_no_write(
    client_of, settings
):
    project = make_project()
    make_ranking(project, make_images(project, 30))
    settings.REQUEST_RATES = {"api": 1, "browser": 12_000}
    client = client_of(make_member(project))
    cat = class_of(project).pk

    for number in range(30):
        claimed = client.post(reverse("api:claim", args=[project.pk]), {}, format="json")
        body = {"lease": claimed.json()["leases"][0]["token"], "class_ids": [cat], "key": number}
        sent = client.post(reverse("api:submit", args=[project.pk]), body, format="json")
        assert sent.status_code == 201

    assert sent["RateLimit"].startswith('"browser";r=11940')
    assert not RateCount.objects.exists()


def test_two_processes_together_keep_the_limit_within_a_fiftieth_each():
    limit, start = 1000, 1_800_000_000.0
    processes = [Rates(), Rates()]
    passed = writes = 0
    for number in range(3 * limit):
        rates = processes[number % 2]
        tally, due = rates.hit("k", limit, start)
        if due:
            writes += 1
            rates.shared(tally, services.add_to_count(key="k", window=tally.window, n=due))
        passed += tally.used <= limit

    assert limit <= passed <= limit + 2 * limit // STEPS
    assert writes <= STEPS + 2


def test_a_counter_that_cannot_be_written_refuses_nobody(limited):
    limited(api=3)
    program = program_of(make_user())

    def fail(execute, sql, *more):
        if "ratecount" in sql:
            raise OperationalError("database is locked")
        return execute(sql, *more)

    with connection.execute_wrapper(fail):
        assert program.get("/api/v1/me/").status_code == 200


def test_old_counts_are_cleared_away():
    current = int(now().timestamp())
    for age in (0, 7200):
        services.add_to_count(key="k", window=current - age)

    keep_house(now=now())

    assert RateCount.objects.get().window == current
    services.forget_old_counts(before=now() + timedelta(hours=1))
    assert not RateCount.objects.exists()


def sign_in(client, name="ada", password="wrong", **more):
    return client.post(reverse("login"), {"username": name, "password": password}, **more)


def test_too_many_guesses_are_a_429_that_says_for_how_long(client):
    make_user("ada")

    statuses = [sign_in(client).status_code for _ in range(11)]
    right = sign_in(client, password="correct horse")

    assert statuses == [200] * 10 + [429]
    assert right.status_code == 429
    assert int(right["Retry-After"]) <= 600
    elsewhere = sign_in(client, password="correct horse", REMOTE_ADDR="192.0.2.7")
    assert elsewhere.status_code == 302


def test_one_password_tried_on_many_names_is_stopped_by_the_address(client, settings):
    settings.LOGIN_FAILURES_PER_ADDRESS = 20
    make_user("ada")

    statuses = [sign_in(client, f"name{number}").status_code for number in range(21)]

    assert statuses == [200] * 20 + [429]
    assert sign_in(client, password="correct horse").status_code == 429
    assert sign_in(client, password="correct horse", REMOTE_ADDR="192.0.2.7").status_code == 302


def test_people_who_sign_in_rightly_do_not_use_their_offices_address_up(client, settings):
    settings.LOGIN_FAILURES_PER_ADDRESS = 3
    make_user("ada")

    for _ in range(5):
        assert sign_in(client, password="correct horse").status_code == 302
        client.logout()


def test_a_forged_forwarded_for_changes_nothing_without_a_proxy_of_ours(client):
    make_user("ada")
    for number in range(10):
        sign_in(client, HTTP_X_FORWARDED_FOR=f"192.0.2.{number}")

    assert sign_in(client, HTTP_X_FORWARDED_FOR="192.0.2.99").status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "found"),
    [
        (0, "1.1.1.1", "10.0.0.1"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "::ffff:192.0.2.7", "192.0.2.7"),
        (1, "192.0.2.7:50123", "192.0.2.7"),
        (1, "[2001:db8:1:2::6]:443", "2001:db8:1:2::/64"),
        (1, "nonsense", "nonsense"),
        (5, "1.1.1.1", "1.1.1.1"),
    ],
)
def test_the_address_is_what_the_outermost_proxy_of_ours_has_seen(
    rf, settings, proxies, forwarded, found
):
    settings.PROXIES = proxies

    request = rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)

    assert throttling.address_of(request) == found


@pytest.mark.parametrize("text", ["ann_", "ann_000123", "ann_" + "x" * 42])
def test_what_only_begins_like_a_token_can_be_looked_for(client_of, text):
    project = make_project()

    answer = client_of(project.created_by).get(f"/api/v1/projects/{project.pk}/images/?q={text}")

    assert answer.status_code == 200


def test_a_cookie_with_what_no_session_has_is_nobodys(client):
    client.cookies["sessionid"] = "\0aaaaaaaa"

    assert client.get("/api/v1/me/").status_code == 401


def test_strangers_are_told_the_same_of_what_is_there_and_what_is_not(client_of):
    project = make_project()
    (image,) = make_images(project, 1)
    stranger = client_of(make_user())
    label = make_label(image, project.created_by, class_of(project))

    there = stranger.get(f"/api/v1/annotations/{label.pk}/").json()
    not_there = stranger.get("/api/v1/annotations/999999/").json()

    assert there["detail"] == not_there["detail"]


def test_a_class_no_database_can_hold_is_refused(client_of):
    project = make_project()
    (image,) = make_images(project, 1)
    client = client_of(project.created_by)
    label = make_label(image, project.created_by, class_of(project))

    answer = client.put(
        f"/api/v1/annotations/{label.pk}/",
        {"class_ids": ["9223372036854775808"]},
        format="json",
        headers={"If-Match": "*"},
    )

    assert answer.status_code == 400


def test_a_label_that_took_for_ever_spoils_no_figure(client_of):
    project = make_project()
    client = client_of(project.created_by)
    for image in make_images(project, 2):
        body = {"image": image.pk, "class_ids": [class_of(project).pk], "seconds": 1.7e308}
        given = client.post(f"/api/v1/projects/{project.pk}/annotations/", body, format="json")
        assert given.status_code == 201

    assert client.get(f"/api/v1/projects/{project.pk}/metrics/").status_code == 200
