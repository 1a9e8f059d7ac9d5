"""The page about the API: everything of the schema, for people, from this server alone."""

import json
import re
import shlex

import jsonschema_rs
import pytest
from django.test import Client

from annotator.api.problem_codes import CODES
from annotator.api.reference import example_of, groups, marked, type_of
from annotator.api.schema import api_schema

pytestmark = pytest.mark.django_db


def page():
    response = Client().get("/api/docs/")
    assert response.status_code == 200
    return response


def test_everybody_can_read_it_and_every_operation_object_and_code_is_on_it():
    text = page().content.decode()

    for methods in api_schema()["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in text
    assert [n for n in api_schema()["components"]["schemas"] if f'id="type-{n}"' not in text] == []
    assert [code for code in CODES if f'id="code-{code}"' not in text] == []


def test_it_needs_nothing_from_elsewhere_and_holds_no_script_of_its_own():
    response = page()
    text = response.content.decode()

    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert [source for source in sources if not source.startswith(("/", "#"))] == []
    assert re.findall(r"<script(?![^>]* src=)", text) == []
    assert "script-src 'self'" in response["Content-Security-Policy"]


def test_every_link_on_it_leads_to_a_place_on_it():
    text = page().content.decode()
    places = set(re.findall(r'id="([^"]+)"', text))

    assert set(re.findall(r'href="#([^"]+)"', text)) - places == set()


def test_the_address_without_the_last_slash_leads_there():
    response = Client().get("/api/docs", follow=True)

    assert response.redirect_chain[-1][0] == "/api/docs/"
    assert response.status_code == 200


def test_the_examples_are_requests_the_schema_accepts_and_hold_no_secret():
    n_bodies = 0
    for group in groups():
        for operation in group["operations"]:
            words = shlex.split(operation["curl"].replace("\\\n", ""))
            assert words[0] == "curl"
            assert "Bearer $TOKEN" in operation["curl"] or operation["id"] == "schema_get"
            if "-d" in words:
                body = json.loads(words[words.index("-d") + 1])
                schema = request_schema(operation["id"])
                components = {"components": {"schemas": api_schema()["components"]["schemas"]}}
                jsonschema_rs.Draft202012Validator({**schema, **components}).validate(body)
                n_bodies += 1
    assert n_bodies > 15


def request_schema(operation_id):
    for methods in api_schema()["paths"].values():
        for operation in methods.values():
            if operation["operationId"] == operation_id:
                return operation["requestBody"]["content"]["application/json"]["schema"]
    raise AssertionError(operation_id)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 200}, "whole number, 1 to 200"),
        ({"type": ["string", "null"], "maxLength": 80}, "text, at most 80 characters or null"),
        ({"type": "string", "enum": ["head", "fine_tune"]}, "head | fine_tune"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Class"}}, "list of Class"),
        ({"oneOf": [{"$ref": "#/components/schemas/Model"}, {"type": "null"}]}, "Model or null"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": "string", "format": "date-time"}, "time, ISO 8601"),
        ({}, "anything"),
    ],
)
def test_types_are_said_in_words(schema, words):
    said = type_of(schema)

    assert said["before"] + said["name"] + said["after"] == words


def test_what_stands_between_backticks_is_code_and_nothing_is_markup():
    assert marked("send `<b>` & wait") == "send <code>&lt;b&gt;</code> &amp; wait"


def test_an_example_has_what_is_required_and_no_more():
    assert example_of({"$ref": "#/components/schemas/ProjectIn"}) == {"name": "Pets"}
