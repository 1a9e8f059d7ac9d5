"""Every write of the API and the bodies it must refuse, on both databases alike."""

import json
import unicodedata

import pytest
from api_kit import api_routes, body_for, fill, headers_for, values_for
from django.urls import reverse
from factories import class_of, make_project, make_user

from annotator.events.models import Event
from annotator.labeling.models import Annotation, Project

pytestmark = pytest.mark.django_db

# Their bodies are files; see tests/test_ingest.
FILES = {"images", "uploads", "upload"}
WRITES = [
    (method, route)
    for route in api_routes()
    for method in route.methods
    if method not in {"get", "head"} and route.name not in FILES
]
IDS = [f"{method} {route.name}" for method, route in WRITES]
every_write = pytest.mark.parametrize(("method", "route"), WRITES, ids=IDS)

JSON = "application/json"
UNREADABLE = [
    b"{",
    b'{"a": 1} x',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e400}',
    b'{"a": ' + b"9" * 400 + b"}",
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": 1, "a": 2}',
    b'{"a": {"b": 1, "b": 1}}',
    b'{"a": "\\u0000"}',
    b'{"a\\u0000": 1}',
    b'{"a": "\\ud800"}',
    b'{"a": "\x00"}',
    b'{"a": "\xff"}',
    b"\xef\xbb\xbf{}",
    '{"a": 1}'.encode("utf-16"),
    b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}",
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
]
NOT_AN_OBJECT = [b"[]", b"[{}]", b'"text"', b"1", b"true"]
ALWAYS_UNKNOWN = [
    "is_staff", "is_superuser", "created_at", "deleted_at", "lease_until", "n_images", "id", "pk",
    "__class__", "project_id", "owner__password", "",
]  # fmt: skip
OTHER_TYPES = [True, [1], {"a": 1}, 1.5, "x" * 200_000, None]


@pytest.fixture
def lead():
    return make_user()


@pytest.fixture
def project(lead):
    return fill(make_project(lead=lead))


@pytest.fixture
def sent(client_of, lead, project):
    """Send a body to a route; what is refused must have left no trace."""
    client = client_of(lead)

    def send(method, route, body, content_type=JSON, where=None, **headers):
        where = where or route.address(values_for(route, lead, project))
        headers = headers_for(method, route) | headers
        before = trace()
        answer = client.generic(method.upper(), where, body, content_type, headers=headers)
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            assert trace() == before
        return answer

    return send


def trace():
    return Event.objects.count(), Annotation.objects.count(), list(Project.objects.values())


@every_write
def test_what_is_no_json_of_ours_is_refused(sent, lead, project, method, route):
    where = route.address(values_for(route, lead, project))

    for body in UNREADABLE:
        answer = sent(method, route, body, where=where)
        assert (answer.status_code, answer.json()["code"]) == (400, "parse-error"), body[:40]
    for body in NOT_AN_OBJECT:
        answer = sent(method, route, body, where=where)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-error"), body


@every_write
def test_another_kind_of_body_is_refused_and_no_method_is_overridden(
    sent, lead, project, method, route
):
    where = route.address(values_for(route, lead, project))
    before = trace()

    for kind, body in (
        ("application/x-www-form-urlencoded", b"_method=DELETE&name=x"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="n"'),
        ("text/plain", b"{}"),
        ("application/xml", b"<a/>"),
    ):
        answer = sent(
            method, route, body, kind, where=where, **{"X-HTTP-Method-Override": "DELETE"}
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-type"), kind
    assert trace() == before


@every_write
def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    sent, settings, lead, project, method, route
):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    answer = sent(method, route, b'{"a": "' + b"x" * 2000 + b'"}')

    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@every_write
def test_a_field_nobody_knows_is_refused_and_changes_nothing(sent, lead, project, method, route):
    where = route.address(values_for(route, lead, project))
    good = body_for(method, route, lead, project)

    for name in ALWAYS_UNKNOWN:
        answer = sent(method, route, json.dumps({**good, name: 1}).encode(), where=where)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-error"), name
        assert answer.json()["errors"][0]["code"] == "unknown-field"
        assert answer.json()["errors"][0]["pointer"] == f"/{name}"


def _may_stand_for(other, value):
    # A number is taken for a text, as its digits; 0 and 1 are numbers, true and false are not.
    if isinstance(other, str):
        return False
    if isinstance(value, str):
        return isinstance(other, int | float) and other is not True
    return isinstance(other, type(value)) and other is not True


@every_write
def test_a_field_of_another_type_is_refused(sent, lead, project, method, route):
    where = route.address(values_for(route, lead, project))
    good = body_for(method, route, lead, project)

    for name, value in good.items():
        for other in OTHER_TYPES:
            if not _may_stand_for(other, value):
                answer = sent(
                    method, route, json.dumps({**good, name: other}).encode(), where=where
                )
                assert answer.status_code in {400, 404, 409, 422}, (name, str(other)[:20])


@pytest.mark.parametrize("value", ["1", "yes", 1, 0, "true", [True]])
def test_only_true_and_false_are_booleans(sent, lead, project, value):
    routes = {route.name: route for route in api_routes()}

    for method, name, field in (
        ("post", "claim", "fresh"),
        ("patch", "queue_settings", "stop_is_hard"),
    ):
        answer = sent(method, routes[name], json.dumps({field: value}).encode())
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"


@pytest.mark.parametrize("value", [True, "0.5x", [0.5], 1e300])
def test_a_share_is_a_number(sent, project, value):
    (route,) = [entry for entry in api_routes() if entry.name == "queue_settings"]

    body = json.dumps({"exploration_share": value}).encode()

    assert sent("patch", route, body).status_code == 400


def test_a_class_of_another_project_is_answered_like_one_that_does_not_exist(sent, lead, project):
    foreign = class_of(make_project(lead=lead)).pk
    (route,) = [entry for entry in api_routes() if entry.name == "submit"]
    good = body_for("post", route, lead, project)
    answers = []

    for class_id in (foreign, 10**9):
        body = json.dumps({**good, "class_ids": [class_id]}).encode()
        answer = sent("post", route, body)
        answers.append(answer.json()["detail"].replace(str(class_id), "N"))
        assert answer.status_code == 422

    assert answers[0] == answers[1]


def test_more_labels_than_a_project_can_have_classes_are_refused(sent, lead, project):
    (route,) = [entry for entry in api_routes() if entry.name == "submit"]
    good = body_for("post", route, lead, project)

    body = json.dumps({**good, "class_ids": list(range(1, 10_001))}).encode()

    assert sent("post", route, body).status_code in {400, 422}


@pytest.mark.parametrize("name", ["images", "uploads"])
def test_a_file_route_takes_no_json(client_of, lead, project, name):
    answer = client_of(lead).post(reverse(f"api:{name}", args=[project.pk]), {}, "json")

    assert answer.status_code in {400, 415}
    assert answer["Content-Type"] == "application/problem+json"


NAMES = [
    ("post", "projects", "name"),
    ("patch", "project", "name"),
    ("post", "classes", "name"),
    ("patch", "class", "name"),
    ("post", "tokens", "name"),
    ("post", "service_tokens", "name"),
    ("post", "invitations", "note"),
    ("post", "webhooks", "description"),
    ("patch", "webhook", "description"),
    ("put", "predictions", "model"),
]
names = pytest.mark.parametrize(("method", "name", "field"), NAMES)


def named(name):
    return next(entry for entry in api_routes() if entry.name == name)


@names
def test_a_name_with_characters_nobody_sees_is_refused(sent, lead, project, method, name, field):
    route = named(name)
    good = body_for(method, route, lead, project)

    for hidden in "\u202e\u200b\ufeff\u00ad\u2066\u2028\u0085\ue000\ufdd0\n\t\x07":
        body = json.dumps({**good, field: f"a{hidden}b"}).encode()
        answer = sent(method, route, body)
        assert (answer.status_code, hidden.encode()) == (400, hidden.encode())
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"


@names
def test_any_other_name_is_kept_as_it_is(sent, lead, project, method, name, field):
    route = named(name)
    good = body_for(method, route, lead, project)
    where = route.address(values_for(route, lead, project))

    for text in (
        "<img src=x onerror=alert(1)>", "{{7*7}} ${7*7}", "<script>", "__proto__", "null", "0",
        "NaN", "..", "CON", ":", 'a,"b"',
        "👩\u200d👩\u200d👧", "العربية", "ภาษาไทย", "e" + "\u0301" * 40,
    ):  # fmt: skip
        answer = sent(method, route, json.dumps({**good, field: text}).encode(), where=where)
        assert answer.status_code < 300, (text, answer.content)
        assert answer.json()[field] == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("name", ["", " ", "\n", None])
def test_a_name_is_not_blank(sent, lead, project, name):
    assert sent("post", named("classes"), json.dumps({"name": name}).encode()).status_code == 400


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("café", "cafe\u0301"),
        ("Äpfel", "ÄPFEL"),
        ("äpfel", "ÄPFEL"),
        ("Straße", "STRASSE"),
        ("fox", "\uff26\uff2f\uff38"),
        ("fox", " fox "),
    ],
)
def test_names_that_look_the_same_are_one_class(sent, lead, project, first, second):
    add, change = named("classes"), named("class")
    sent("post", add, json.dumps({"name": first}).encode())
    body = json.dumps({"name": second}).encode()

    assert sent("post", add, body).json()["code"] == "class-exists"
    assert sent("patch", change, body).json()["code"] == "class-exists"
    where = reverse("api:class", args=[project.pk, class_of(project, first).pk])
    assert sent("patch", change, body, where=where).status_code == 200
