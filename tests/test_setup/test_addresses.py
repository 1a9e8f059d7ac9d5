"""No address and no query makes the server fail, whatever numbers stand in it."""

import base64
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import URLResolver, get_resolver
from factories import make_project, make_user

HUGE = 9_999_999_999_999_999_999_999


def cursor(text):
    return f"cursor={base64.b64encode(text.encode()).decode()}"


def addresses(resolver=None, prefix=""):
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from addresses(entry, route)
        elif "<id:" in route or "<int:" in route:
            yield re.sub(r"<\w+:\w+>", str(HUGE), route)


@pytest.mark.django_db
def test_a_number_too_large_for_the_database_is_no_such_page(client_of):
    client = client_of(make_user(admin=True))
    client.raise_request_exception = False
    found = list(addresses())

    assert len(found) > 20
    for address in found:
        for method in ("get", "post", "patch", "put", "delete"):
            assert getattr(client, method)(f"/{address}").status_code in {404, 405}, address


@pytest.mark.django_db
@pytest.mark.parametrize("written", ["0{}", "{:0>400}", "{:0>21}", "+{}", "-{}", "{}.0", "0"])
def test_a_thing_has_one_address_however_else_its_number_could_be_written(client_of, written):
    lead = make_user()
    project = make_project(lead=lead)
    address = f"/api/v1/projects/{written.format(project.pk)}/"
    headers = {"Idempotency-Key": "k"}

    answer = client_of(lead).patch(address, {"name": "n"}, "json", headers=headers)

    assert answer.status_code == 404
    assert client_of(lead).get(f"/projects/{written.format(project.pk)}/").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        f"class={HUGE}",
        "class=9223372036854775808",
        "class=%00",
        "cursor=zzz",
        cursor("p=zzz"),
        cursor("p=-1"),
        cursor(f"p={HUGE}"),
        cursor("o=9999999999999999999"),
        "q=%00",
        "limit=99999999999999999999",
    ],
)
def test_a_query_that_means_nothing_is_refused_or_left_out(client_of, query):
    lead = make_user()
    project = make_project(lead=lead)
    client = client_of(lead)
    client.raise_request_exception = False

    for address in (f"/projects/{project.pk}/images/", f"/api/v1/projects/{project.pk}/images/"):
        assert client.get(f"{address}?{query}").status_code in {200, 400, 404}


@pytest.mark.django_db
def test_a_mistake_of_the_server_is_a_problem_for_programs_and_a_page_for_people(
    client_of, monkeypatch
):
    client = client_of(make_user())
    client.raise_request_exception = False

    def fail(*_):
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr("annotator.accounts.access.visible_projects", fail)
    program, person = client.get("/api/v1/projects/"), client.get("/")

    assert (program.status_code, program["Content-Type"]) == (500, "application/problem+json")
    assert program.json()["code"] == "server-error"
    assert program.json()["request_id"] == program["X-Request-ID"]
    assert "secret" not in program.content.decode()
    assert person.status_code == 500
    assert b"The server made a mistake" in person.content
    assert person["Content-Type"].startswith("text/html")


@pytest.mark.django_db
def test_a_request_django_refuses_is_a_problem_too(client_of, settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    lead = make_user()
    project = make_project(lead=lead)
    files = [SimpleUploadedFile(f"{number}.png", b"x") for number in range(3)]

    answer = client_of(lead).post(f"/api/v1/projects/{project.pk}/images/", {"file": files})

    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "bad-request"
