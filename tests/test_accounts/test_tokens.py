import re
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from factories import (
    HOUR,
    class_of,
    make_images,
    make_member,
    make_project,
    make_ranking,
    make_user,
    now,
)
from rest_framework.test import APIClient

from annotator.accounts import secrets, services
from annotator.accounts.models import ApiToken, Membership, Role, Scope, User
from annotator.events.models import Event
from annotator.labeling.models import Annotation
from workqueue.models import Lease

pytestmark = pytest.mark.django_db


def signed_in(secret: str) -> APIClient:
    return APIClient(headers={"Authorization": f"Bearer {secret}"})


def token_of(user, scope=Scope.MANAGE, **fields) -> str:
    return services.create_token(user=user, name="t", now=now(), scope=scope, **fields).secret


def service_of(project, scope=Scope.ANNOTATE, **fields) -> str:
    made = services.create_service_token(
        project_id=project.pk, name="Vendor", scope=scope, actor=project.created_by, now=now(),
        **fields,
    )  # fmt: skip
    return made.secret


def address(name, project, *more):
    return reverse(f"api:{name}", args=[project.pk, *more])


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 5))
    return project


def test_a_token_can_be_found_by_a_scanner_and_a_mistyped_one_costs_no_query(
    django_assert_num_queries,
):
    secret = token_of(make_user())

    assert re.fullmatch(r"annp_[0-9A-Za-z]{49}", secret)
    assert secrets.is_well_formed(secret)
    swapped = secret[:-7] + ("a" if secret[-7] != "a" else "b") + secret[-6:]
    with django_assert_num_queries(0):
        assert services.find_token(secret=swapped, now=now()) is None
        assert services.find_token(secret="null", now=now()) is None


def test_a_token_of_the_first_kind_still_works():
    user, secret = make_user(), "ann_" + "x" * 43
    ApiToken.objects.create(
        user=user, name="old", scope=Scope.MANAGE, secret_hash=secrets.hash_secret(secret)
    )

    assert signed_in(secret).get("/api/v1/me/").status_code == 200


WRITES = [
    ("get", "status", Scope.READ),
    ("get", "members", Scope.READ),
    ("post", "claim", Scope.ANNOTATE),
    ("post", "unskip", Scope.ANNOTATE),
    ("patch", "project", Scope.MANAGE),
    ("post", "classes", Scope.MANAGE),
    ("post", "rounds", Scope.MANAGE),
    ("post", "service_tokens", Scope.MANAGE),
    ("get", "webhooks", Scope.MANAGE),
    ("post", "webhooks", Scope.MANAGE),
    ("get", "predictions", Scope.READ),
    ("put", "predictions", Scope.MANAGE),
    ("get", "kept_labels", Scope.READ),
]


@pytest.mark.parametrize(("method", "name", "needed"), WRITES)
def test_each_scope_includes_the_smaller_ones_and_a_refusal_names_the_one_needed(
    project, method, name, needed
):
    for scope in Scope:
        client = signed_in(token_of(project.created_by, scope))
        answer = getattr(client, method)(address(name, project), {}, format="json")

        if scope >= needed:
            assert answer.status_code not in {401, 403, 404}
        else:
            assert answer.status_code == 403
            assert answer.json()["code"] == "scope-missing"
            assert answer.json()["needed"] == needed.label.lower()
            assert answer.json()["scope"] == scope.label.lower()


def test_a_token_never_does_more_than_its_owner_may_do_now(project):
    owner = make_member(project, Role.LEAD)
    client = signed_in(token_of(owner))
    assert client.patch(address("project", project), {"name": "A"}, "json").status_code == 200

    services.set_role(
        project_id=project.pk, user=owner, role=Role.ANNOTATOR, actor=project.created_by
    )
    assert client.patch(address("project", project), {"name": "B"}, "json").status_code == 403

    services.remove_member(project_id=project.pk, user=owner, actor=project.created_by)
    assert client.get(address("project", project)).status_code == 404

    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert client.get("/api/v1/me/").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "Bearer null",
        "Bearer ",
        "Bearer",
        "Bearer annp_" + "a" * 49,
        "Bearer a,Bearer b",
        "Bearer \xff\xfe",
    ],
)
def test_every_token_that_does_not_work_gets_the_same_answer(header):
    user = make_user()
    revoked, expired = token_of(user), token_of(user, lifetime=-HOUR)
    services.revoke_token(token=ApiToken.objects.latest("-pk"), now=now(), actor=user)

    answers = [
        APIClient(headers={"Authorization": text}).get("/api/v1/me/").json() | {"request_id": ""}
        for text in (header, f"Bearer {revoked}", f"Bearer {expired}")
    ]

    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["status"] == 401


def test_the_last_use_is_written_once_a_minute_and_not_on_every_request():
    user = make_user()
    secret, start = token_of(user), now()

    for seconds in (0, 10, 59, 61):
        services.find_token(secret=secret, now=start + timedelta(seconds=seconds))
        last_used = ApiToken.objects.get().last_used_at
        assert last_used == start + timedelta(seconds=61 if seconds == 61 else 0)


@pytest.mark.parametrize("name", ["token", "access_token", "q"])
def test_a_token_in_an_address_is_refused_and_the_leak_is_in_the_log(project, name):
    user = project.created_by
    secret = token_of(user)

    answer = signed_in(secret).get(address("images", project), {name: secret})

    assert (answer.status_code, answer.json()["code"]) == (400, "token-in-address")
    assert secret not in str(answer.json())
    leak = Event.objects.get(kind="token.in_address")
    assert (leak.actor, leak.payload) == (user, {"token": ApiToken.objects.get().pk})


def test_a_token_that_stands_in_addresses_again_and_again_fills_no_log(project, monkeypatch):
    secret = token_of(project.created_by)
    where = address("images", project)
    start = now().replace(minute=5)

    for minutes in (0, 1, 2, 61):
        monkeypatch.setattr(timezone, "now", lambda m=minutes: start + timedelta(minutes=m))
        assert signed_in(secret).get(where, {"token": secret}).status_code == 400

    assert Event.objects.filter(kind="token.in_address").count() == 2


def test_a_token_made_with_a_token_lives_no_longer_and_needs_manage():
    user = make_user()
    client = signed_in(token_of(user, lifetime=HOUR))

    made = client.post("/api/v1/tokens/", {"name": "n", "scope": "manage"}, format="json")
    longer = client.post("/api/v1/tokens/", {"name": "n", "days": 3650}, format="json")

    assert made.status_code == longer.status_code == 201
    ends = set(ApiToken.objects.values_list("expires_at", flat=True))
    assert len(ends) == 1
    small = signed_in(token_of(user, Scope.ANNOTATE))
    assert small.post("/api/v1/tokens/", {"name": "n"}, format="json").status_code == 403


def test_a_token_asked_for_without_a_scope_may_only_read(client_of):
    made = client_of(make_user()).post("/api/v1/tokens/", {"name": "n"}, format="json").json()

    assert made["scope"] == "read"
    assert made["expires_at"] is None


def test_a_service_labels_under_its_own_name_in_its_project_alone(project):
    elsewhere = make_project(lead=project.created_by)
    client = signed_in(service_of(project))

    lease = client.post(address("claim", project), {}, format="json").json()["leases"][0]
    body = {"lease": lease["token"], "class_ids": [class_of(project).pk], "key": "1"}
    assert client.post(address("submit", project), body, format="json").status_code == 201

    author = Annotation.objects.get().author
    assert author.shown_name == "Vendor (service)"
    lead = signed_in(token_of(project.created_by))
    feed = lead.get(address("events", project)).json()["results"]
    assert feed[-1]["actor_name"] == "Vendor (service)"
    member = [m for m in lead.get(address("members", project)).json()["results"] if m["is_service"]]
    assert [entry["name"] for entry in member] == ["Vendor (service)"]
    assert client.get(address("project", elsewhere)).status_code == 404
    Membership.objects.create(project=elsewhere, user=author, role=Role.LEAD)
    assert client.get(address("project", elsewhere)).status_code == 404
    assert [p["id"] for p in client.get("/api/v1/projects/").json()["results"]] == [project.pk]


def test_a_service_makes_no_projects_and_no_personal_tokens_and_cannot_sign_in(project):
    client = signed_in(service_of(project, Scope.MANAGE))

    assert client.post("/api/v1/projects/", {"name": "x"}, format="json").status_code == 403
    assert client.get("/api/v1/tokens/").status_code == 403
    assert client.post("/api/v1/tokens/", {"name": "x"}, format="json").status_code == 403

    service = User.objects.get(service_of=project)
    for guess in ("", "!", service.password):
        assert authenticate(username=service.username, password=guess) is None
    service.set_password("tulips in the rain")
    with pytest.raises(IntegrityError), transaction.atomic():
        service.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=service.pk).update(is_superuser=True)


def test_only_a_lead_makes_service_tokens_and_they_are_shown_once(project):
    body = {"name": "Export", "scope": "read", "days": 30}
    where = address("service_tokens", project)
    assert signed_in(token_of(make_member(project, Role.REVIEWER))).post(
        where, body, format="json"
    ).status_code == 403  # fmt: skip
    lead = signed_in(token_of(project.created_by))

    made = lead.post(where, body, format="json").json()

    assert made["token"].startswith(made["prefix"])
    assert made["token"].startswith("anns_")
    assert (made["scope"], made["role"]) == ("read", "reviewer")
    assert made["created_by"] == project.created_by.shown_name
    listed = lead.get(where)
    assert [entry["id"] for entry in listed.json()["results"]] == [made["id"]]
    assert made["token"] not in listed.content.decode()


def test_the_same_name_is_the_same_service_and_its_role_is_never_lowered(project):
    first = signed_in(service_of(project, Scope.MANAGE))
    second = signed_in(service_of(project, Scope.READ))

    assert User.objects.filter(service_of=project).count() == 1
    assert first.get("/api/v1/me/").json()["id"] == second.get("/api/v1/me/").json()["id"]
    assert first.post(address("classes", project), {"name": "x"}, "json").status_code == 201
    assert second.post(address("classes", project), {"name": "y"}, "json").status_code == 403


def test_a_service_without_tokens_leaves_and_what_it_held_is_free_at_once(project):
    secret = service_of(project)
    client = signed_in(secret)
    client.post(address("claim", project), {"n": 2}, format="json")
    token = ApiToken.objects.get(user__service_of=project)
    lead = signed_in(token_of(project.created_by))

    gone = lead.delete(address("service_token", project, token.pk))

    assert gone.status_code == 204
    assert client.get("/api/v1/me/").status_code == 401
    assert not Membership.objects.filter(user=token.user).exists()
    assert not Lease.objects.filter(state=Lease.State.LIVE).exists()
    assert signed_in(service_of(project)).get(address("status", project)).status_code == 200


def test_a_service_taken_out_of_the_project_loses_its_tokens(project):
    client = signed_in(service_of(project))
    service = User.objects.get(service_of=project)

    services.remove_member(project_id=project.pk, user=service, actor=project.created_by)

    assert client.get("/api/v1/me/").status_code == 401
    token = ApiToken.objects.get(user=service)
    services.revoke_token(token=token, now=now(), actor=project.created_by)


def test_a_service_that_leads_does_not_stand_in_for_the_last_person_who_does(project):
    service_of(project, Scope.MANAGE)

    with pytest.raises(services.LastLeadError):
        services.remove_member(
            project_id=project.pk, user=project.created_by, actor=project.created_by
        )


def test_another_projects_service_token_is_not_found(project):
    other = make_project(lead=project.created_by)
    service_of(other)
    token = ApiToken.objects.get(user__service_of=other)

    client = signed_in(token_of(project.created_by))

    assert client.delete(address("service_token", project, token.pk)).status_code == 404
    personal = ApiToken.objects.get(user=project.created_by)
    assert client.delete(address("service_token", project, personal.pk)).status_code == 404


def test_the_pages_show_tokens_with_what_they_may_and_until_when(project, client):
    lead = project.created_by
    token_of(lead, Scope.READ, lifetime=-HOUR)
    service_of(project, Scope.ANNOTATE)
    client.force_login(lead)

    account = client.get(reverse("account")).content.decode()
    people = client.get(reverse("people", args=[project.pk])).content.decode()

    assert "expired" in account
    assert "annp_" in account
    assert "anns_" in people
    assert "Vendor (service)" not in people.partition("Service tokens")[0]
    client.force_login(make_member(project, Role.REVIEWER))
    seen = client.get(reverse("people", args=[project.pk])).content.decode()
    assert "Service tokens" not in seen
    assert "anns_" not in seen


def test_who_asks_learns_their_roles_and_what_the_token_may(project, client_of):
    person = make_member(project, Role.REVIEWER)
    gone = make_project()
    Membership.objects.create(project=gone, user=person, role=Role.LEAD)
    gone.deleted_at = now()
    gone.save()
    secret = token_of(person, Scope.ANNOTATE, lifetime=HOUR)

    asked = signed_in(secret).get("/api/v1/me/").json()

    assert (asked["n_projects"], asked["is_service"], asked["is_admin"]) == (1, False, False)
    assert asked["roles"] == [{"project_id": project.pk, "role": "reviewer"}]
    token = ApiToken.objects.get()
    assert asked["token"]["scope"] == "annotate"
    assert asked["token"]["expires_at"] == token.expires_at.isoformat()
    assert secret not in str(asked)
    assert client_of(person).get("/api/v1/me/").json()["token"] is None
    service = signed_in(service_of(project)).get("/api/v1/me/").json()
    assert (service["is_service"], service["name"]) == (True, "Vendor (service)")
    assert service["roles"] == [{"project_id": project.pk, "role": "annotator"}]
