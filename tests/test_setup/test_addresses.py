"""No address and no query makes the server fail, whatever numbers stand in it."""

import base64
import re

import pytest
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
        "page_size=99999999999999999999",
    ],
)
def test_a_query_that_means_nothing_is_refused_or_left_out(client_of, query):
    lead = make_user()
    project = make_project(lead=lead)
    client = client_of(lead)
    client.raise_request_exception = False

    for address in (f"/projects/{project.pk}/images/", f"/api/v1/projects/{project.pk}/images/"):
        assert client.get(f"{address}?{query}").status_code in {200, 400, 404}
