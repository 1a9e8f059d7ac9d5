"""The schema of the API: complete, explained, reviewed.

``pytest tests/test_contract/test_schema.py --write-golden`` writes the reviewed file anew.
"""

import csv
import re
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from api_kit import api_routes
from contract_kit import ContractBrokenError, check_answer, check_json, template_of
from django.test import Client
from rest_framework.response import Response

from annotator.api import contract as c
from annotator.api.contract import Answer, Operation
from annotator.api.problem_codes import CODES
from annotator.api.schema import ContractMissingError, api_schema, operation_of
from annotator.api.views import APIView

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "openapi.yaml"
TABLE = ROOT / "tests" / "golden" / "authorization.csv"
ROLES = ["annotator", "reviewer", "lead"]


def as_text():
    return yaml.safe_dump(api_schema(), sort_keys=False, allow_unicode=True, width=100)


def operations():
    for path, methods in api_schema()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_schema_is_the_reviewed_one(write_golden):
    found = as_text()

    if write_golden:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), "see the docstring of this file, and review the difference"


def test_every_method_of_every_route_says_what_it_takes_and_answers():
    for route in api_routes():
        for method in route.methods:
            # Django gives a view with ``get`` a ``head`` of its own.
            if method == "head" and hasattr(route.view, "get"):
                continue
            operation_of(route.view, method)
            assert method in api_schema()["paths"][template_of(f"api/v1/{route.pattern}")]


def test_a_method_without_a_contract_is_told_what_to_write():
    class BirdsView(APIView):
        def post(self, request):
            return Response({})

    with pytest.raises(ContractMissingError, match=r"BirdsView has no contract for POST\. Write"):
        operation_of(BirdsView, "post")


def test_the_schema_is_valid_openapi():
    schema = api_schema()
    for name, shape in schema["components"]["schemas"].items():
        (
            jsonschema_rs.meta.validate(
                {"$schema": "https://json-schema.org/draft/2020-12/schema"} | shape
            ),
            name,
        )
    names = [operation["operationId"] for _, operation in operations()]

    assert schema["openapi"].startswith("3.1.")
    assert sorted(names) == sorted(set(names))
    references = set(re.findall(r"\$ref: '?#/components/(\w+)/([\w.-]+)", as_text()))
    assert [r for r in references if r[1] not in schema["components"][r[0]]] == []


def test_everything_in_the_schema_says_what_it_means():
    silent = [where for where, operation in operations() if not operation["summary"]]
    silent += [
        f"{where} {parameter['name']}"
        for where, operation in operations()
        for parameter in operation.get("parameters", [])
        if not parameter["description"]
    ]
    for name, shape in api_schema()["components"]["schemas"].items():
        fields = shape["properties"].items()
        silent += [f"{name}.{field}" for field, inner in fields if not inner.get("description")]
        silent += [] if shape.get("description") else [name]

    assert silent == []


def test_the_roles_and_scopes_of_the_schema_are_those_of_the_reviewed_table():
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = template_of(f"api/v1/{row['route']}")
        operation = api_schema()["paths"][path].get(row["method"].lower())
        if operation is None or "security" not in operation:
            continue
        reached = [role for role in ROLES if row[role] not in {"401", "403", "404"}]
        needed = operation.get("x-role")
        where = f"{row['method']} {path}"
        if needed:
            assert reached == ROLES[ROLES.index(needed) :], where
            assert row["stranger"] in {"404", "403"}, where
        else:
            assert reached == ROLES, where
        scopes = ["read", "annotate", "manage"]
        (scope,) = operation["security"][0]["token"]
        refused = [
            name for name in scopes if row[f"token_{name}"] == "403" and row["lead"] != "403"
        ]
        assert refused == scopes[: scopes.index(scope)], where


def test_every_code_of_the_docs_is_in_the_schema_with_the_same_words():
    table = (ROOT / "docs" / "api.md").read_text().split("## Errors")[1].split("## ")[0]
    listed = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \| (.*?) ?\|$", table, re.MULTILINE)

    assert {code: (int(status), meaning) for code, status, meaning in listed} == CODES


def test_everybody_can_read_the_schema():
    response = Client().get("/api/v1/schema/")

    assert response.json() == api_schema()


# --- The check of every answer is itself held to what it promises -------------------------------


class BirdOut(Answer):
    """A bird."""

    id = c.whole("the id")
    ring = c.maybe(c.text("what its ring says"))


def test_a_field_that_is_not_in_every_answer_is_not_required():
    assert [name for name, field in BirdOut().fields.items() if field.required] == ["id"]


def answered(client, path):
    """Return an answer that has passed the check, to be spoiled."""
    response = client.get(path)
    assert response.status_code == 200
    return response


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: body.pop("n_projects"), "n_projects"),
        (lambda body: body.update(id="seven"), "seven"),
        (lambda body: body.update(secret=1), "secret"),
        (lambda body: body["roles"].append({"project_id": 1, "role": "king"}), "king"),
        (lambda body: body.update(token={}), "token"),
    ],
)
def test_an_answer_of_another_shape_is_noticed(spoil, said, client_of):
    from factories import make_user

    response = answered(client_of(make_user()), "/api/v1/me/")
    body = response.json()
    spoil(body)

    with pytest.raises(ContractBrokenError, match=said):
        check_json("GET me/", {"$ref": "#/components/schemas/Me"}, body)


@pytest.mark.django_db
def test_a_status_a_code_or_a_type_the_schema_does_not_know_is_noticed(client_of):
    from factories import make_user

    client = client_of(make_user())
    response = answered(client, "/api/v1/me/")
    response.status_code = 202
    with pytest.raises(ContractBrokenError, match="answered 202, which the schema does not know"):
        check_answer("GET", response)

    response = answered(client, "/api/v1/me/")
    response["Content-Type"] = "text/html"
    with pytest.raises(ContractBrokenError, match="as text/html"):
        check_answer("GET", response)

    response = client.get("/api/v1/me/?colour=red")
    response.content = response.content.replace(b'"validation-error"', b'"empty-file"')
    with pytest.raises(ContractBrokenError, match="empty-file"):
        check_answer("GET", response)


@pytest.mark.django_db
def test_a_body_read_by_another_serializer_than_the_declared_one_is_noticed(client_of, monkeypatch):
    from factories import make_user

    from annotator.accounts.views import TokensView

    wrong = {**TokensView.contract, "post": Operation(BirdOut, status=201)}
    monkeypatch.setattr(TokensView, "contract", wrong)

    with pytest.raises(ContractBrokenError, match="reads \\['TokenIn'\\]"):
        client_of(make_user()).post("/api/v1/tokens/", {"name": "n"}, format="json")
