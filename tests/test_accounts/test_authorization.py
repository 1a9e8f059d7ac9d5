"""Who may do what: every route, method and kind of caller, as a table that is reviewed.

``pytest tests/test_accounts/test_authorization.py --write-golden`` writes it anew.
"""

import csv
import io
from pathlib import Path

import pytest
from api_kit import ONES_OWN, api_routes, body_for, fill, headers_for, values_for
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from factories import make_member, make_project, make_user, now
from rest_framework.test import APIClient

from annotator.accounts import services
from annotator.accounts.models import ApiToken, Role, Scope, User
from annotator.api.views import APIView

TABLE = Path(__file__).resolve().parent.parent / "golden" / "authorization.csv"
PEOPLE = ["stranger", "removed", "annotator", "reviewer", "lead", "admin"]
TOKENS = [f"{kind}_{s.label.lower()}" for kind in ("token", "service") for s in Scope]
# A lead of two projects who names an object of one below the other; an annotator with what is
# another person's; a service of the other project, whose lead leads both.
FOREIGN = ["lead_foreign", "annotator_others", "service_elsewhere"]
CALLERS = ["anonymous", "revoked", *PEOPLE, *TOKENS, *FOREIGN]


class World:
    """Two projects and everybody who may ask for something."""

    def __init__(self):
        self.project = fill(make_project())
        lead = make_member(self.project, Role.LEAD)
        self.other = fill(make_project(lead=lead))
        removed = make_member(self.project, Role.LEAD)
        services.remove_member(project_id=self.project.pk, user=removed, actor=lead)
        self.users = {
            "anonymous": lead,
            "revoked": lead,
            "stranger": make_user(),
            "removed": removed,
            "annotator": make_member(self.project, Role.ANNOTATOR),
            "reviewer": make_member(self.project, Role.REVIEWER),
            "lead": lead,
            "admin": make_user(admin=True),
        }
        self.users |= {
            "lead_foreign": lead,
            "annotator_others": self.users["annotator"],
        }
        self.clients = {name: APIClient() for name in CALLERS}
        for name in (*PEOPLE, *FOREIGN[:2]):
            self.clients[name].force_login(self.users[name])
        for scope in Scope:
            self._add_tokens(scope)
        self._add_service_elsewhere()
        self._add_revoked()

    def _add_tokens(self, scope):
        lead, name = self.users["lead"], scope.label.lower()
        made = services.create_token(user=lead, name="t", now=now(), scope=scope)
        self._sign_in(f"token_{name}", made.secret, lead)
        made = services.create_service_token(
            project_id=self.project.pk, name=name, scope=scope, actor=lead, now=now()
        )
        self._sign_in(f"service_{name}", made.secret, ApiToken.objects.get(pk=made.pk).user)

    def _add_service_elsewhere(self):
        made = services.create_service_token(
            project_id=self.other.pk, name="elsewhere", scope=Scope.MANAGE,
            actor=self.users["lead"], now=now(),
        )  # fmt: skip
        self._sign_in("service_elsewhere", made.secret, ApiToken.objects.get(pk=made.pk).user)

    def _add_revoked(self):
        lead = self.users["lead"]
        made = services.create_token(user=lead, name="t", now=now())
        services.revoke_token(token=ApiToken.objects.get(pk=made.pk), now=now(), actor=lead)
        self._sign_in("revoked", made.secret, lead)

    def _sign_in(self, name: str, secret: str, user: User):
        self.users[name] = user
        self.clients[name] = APIClient(headers={"Authorization": f"Bearer {secret}"})

    def ask(self, caller, method, route):
        """Return the status, or nothing where the question makes no sense; leave no trace."""
        nested = len(route.parameters) > 1 and "project_id" in route.parameters
        owned = any((route.name, name) in ONES_OWN for name in route.parameters)
        if (caller == "lead_foreign" and not nested) or (
            caller == "annotator_others" and not owned
        ):
            return ""
        with transaction.atomic():
            status = self._status(caller, method, route)
            transaction.set_rollback(True)
        return "2xx" if 200 <= status < 300 else str(status)

    def _status(self, caller, method, route):
        values = values_for(route, self._owner(caller), self.project)
        if caller == "lead_foreign":
            foreign = values_for(route, self.users[caller], self.other)
            values |= {name: foreign[name] for name in foreign if name != "project_id"}
        client, where = self.clients[caller], route.address(values)
        if (method, route.name) == ("post", "images"):
            return client.post(where, {"file": SimpleUploadedFile("a.png", b"x")}).status_code
        if (method, route.name) == ("post", "uploads"):
            return client.post(where, headers={"Upload-Length": "10"}).status_code
        if (method, route.name) == ("patch", "upload"):
            piece = {"content_type": "application/offset+octet-stream"}
            return client.generic(
                "PATCH", where, b"x", headers={"Upload-Offset": "0"}, **piece
            ).status_code
        body = body_for(method, route, self._actor(caller), self.project)
        if method in {"get", "head"}:
            return getattr(client, method)(where).status_code
        headers = headers_for(method, route)
        return getattr(client, method)(where, body, format="json", headers=headers).status_code

    def _actor(self, caller):
        """Return who could send such a body: whoever is a member."""
        outside = {"anonymous", "revoked", "stranger", "removed", "service_elsewhere"}
        return self.users["lead" if caller in outside else caller]

    def _owner(self, caller):
        return self.users["reviewer"] if caller == "annotator_others" else self._actor(caller)


def table(world):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["route", "method", *CALLERS])
    for route in api_routes():
        for method in route.methods:
            answers = [world.ask(caller, method, route) for caller in CALLERS]
            writer.writerow([route.pattern, method.upper(), *answers])
    return text.getvalue()


@pytest.mark.django_db
def test_everybody_may_do_exactly_what_the_reviewed_table_says(write_golden):
    found = table(World())

    if write_golden:
        TABLE.write_text(found)
    missing = "see the docstring of this file, and review the difference"
    assert found.splitlines() == TABLE.read_text().splitlines(), missing


def rows():
    return list(csv.DictReader(TABLE.open()))


def is_open(row):
    """The description of the API holds nothing of this installation."""
    return (row["route"], row["method"]) == ("schema/", "GET")


def test_the_table_lets_nobody_in_whom_no_rule_lets_in():
    for row in rows():
        where = f"{row['method']} {row['route']}"
        assert row["anonymous"] == row["revoked"] == ("2xx" if is_open(row) else "401"), where
        if "<" in row["route"]:
            assert row["stranger"] == row["removed"] == "404", where
            # A service has no personal tokens at all, and is told so.
            refused = "403" if row["route"].startswith("tokens/") else "404"
            assert row["service_elsewhere"] == refused, where
        assert row["lead_foreign"] in {"", "404"}, where
        assert row["annotator_others"] in {"", "403", "404"}, where


def test_in_the_table_a_higher_role_and_a_wider_scope_can_do_all_that_a_lower_one_can():
    refused = {"401", "403", "404"}
    for row in rows():
        where = f"{row['method']} {row['route']}"
        for ladder in (["annotator", "reviewer", "lead", "admin"], TOKENS[:3]):
            reached = [row[caller] not in refused for caller in ladder]
            assert reached == sorted(reached), where
        for scope in ("read", "annotate", "manage"):
            assert row[f"token_{scope}"] in {row["lead"], "403"}, where
        if row["method"] not in {"GET", "HEAD"}:
            assert row["token_read"] == row["service_read"] == "403", where


def test_every_route_promises_what_our_views_promise():
    assert [route.pattern for route in api_routes() if not issubclass(route.view, APIView)] == []
