"""Every list of the API: pages, limits, and questions that mean nothing."""

import base64

import pytest
from api_kit import api_routes, fill, values_for
from django.core import signing
from django.urls import reverse
from factories import HOUR, class_of, make_images, make_member, make_project, make_user, now

from annotator.accounts import services
from annotator.accounts.models import Role
from annotator.labeling.services import ClassSpec, add_class, delete_class, delete_image

pytestmark = pytest.mark.django_db

LISTS = [route for route in api_routes() if "limit" in route.view.parameters]
CURSORS = [route for route in LISTS if "cursor" in route.view.parameters]


def names(routes):
    return [route.name for route in routes]


@pytest.fixture
def lead():
    return make_user()


@pytest.fixture
def project(lead):
    return fill(make_project(lead=lead))


def test_every_answer_with_rows_is_a_list_with_pages(client_of, lead, project):
    client = client_of(lead)

    for route in api_routes():
        if "get" in route.methods:
            answer = client.get(route.address(values_for(route, lead, project)))
            if answer["Content-Type"] == "application/json":
                assert ("results" in answer.json()) == (route in LISTS), route.pattern
    assert len(LISTS) > 12
    assert [route.name for route in LISTS if route not in CURSORS] == ["events"]


BAD = [
    *(f"limit={text}" for text in ("-1", "0", "201", "1000000000", "abc", "1e3", "", "%00", "٣")),
    "limit=1&limit=2",
    "offset=1000000000000000000000000000000",
    "page_size=10",
    "order=password",
    "order=-nosuch",
    "owner__password=x",
    "name__regex=.*",
    "id__in=1,2,3",
    "_connector=OR",
    "__class__=x",
    "prio=abc",
    "name=%00",
]


@pytest.mark.parametrize("route", LISTS, ids=names(LISTS))
def test_a_question_that_means_nothing_is_a_400_and_never_answered_with_everything(
    client_of, lead, project, route
):
    where = route.address(values_for(route, lead, project))
    client = client_of(lead)

    for query in BAD:
        answer = client.get(f"{where}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-error"), query
        assert answer.json()["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"
    assert client.get(f"{where}?limit=200").status_code == 200


@pytest.mark.parametrize("route", CURSORS, ids=names(CURSORS))
def test_a_cursor_nobody_gave_out_is_a_400(client_of, lead, project, route):
    where = route.address(values_for(route, lead, project))
    client = client_of(lead)
    forged = [
        "",
        "zzz",
        "%00",
        "a" * 100_000,
        base64.b64encode(b"p=1").decode(),
        signing.dumps([0, False, "1"]),
        signing.dumps([0, False, "1"], salt=f"cursor:{where}:{lead.pk + 1}"),
        signing.dumps([0, False, "1"], salt=f"cursor:{where}x/:{lead.pk}"),
    ]

    for cursor in forged:
        answer = client.get(f"{where}?cursor={cursor}")
        assert answer.status_code == 400, cursor[:40]
        assert answer.json()["errors"][0]["pointer"] == "/cursor"


def test_a_cursor_is_of_one_list_and_one_person(client_of, lead, project):
    other = make_project(lead=lead)
    for name in ("a", "b"):
        add_class(project=other, actor=lead, spec=ClassSpec(name))
    where = reverse("api:classes", args=[project.pk])
    cursor = client_of(lead).get(f"{where}?limit=1").json()["next"].partition("?")[2]
    elsewhere = reverse("api:classes", args=[other.pk])
    member = client_of(make_member(project))

    assert client_of(lead).get(f"{where}?{cursor}").status_code == 200
    assert client_of(lead).get(f"{elsewhere}?{cursor}").status_code == 400
    assert member.get(f"{where}?{cursor}").status_code == 400


def walk(client, where, between=lambda: None, key="id"):
    """Return the ids of all pages of one row, doing something between any two."""
    found, page = [], client.get(f"{where}?limit=1").json()
    while True:
        assert len(page["results"]) <= 1
        found += [entry[key] for entry in page["results"]]
        if page["next"] is None:
            return found
        between()
        page = client.get(page["next"]).json()


def test_pages_of_images_skip_and_double_nothing_while_images_come_and_go(client_of, lead, project):
    there = list(project.images.order_by("-pk").values_list("pk", flat=True))
    gone = []

    def between():
        make_images(project, 1)
        if not gone:
            gone.append(there[1])
            image = project.images.get(pk=there[1])
            delete_image(image=image, actor=lead, now=now())

    found = walk(client_of(lead), reverse("api:images", args=[project.pk]), between)

    assert found == [pk for pk in there if pk not in gone]


def test_classes_come_in_their_order_also_where_two_have_the_same_place(client_of, lead, project):
    for name in ("fox", "owl"):
        add_class(project=project, actor=lead, spec=ClassSpec(name))
    project.classes.filter(name__in=["dog", "owl"]).update(position=1)
    delete_class(label_class=class_of(project, "bird"), actor=lead, now=now())

    found = walk(client_of(lead), reverse("api:classes", args=[project.pk]))

    living = project.classes.filter(deleted_at=None).order_by("position", "pk")
    assert found == list(living.values_list("pk", flat=True))


def test_the_page_before_is_the_one_we_came_from(client_of, lead, project):
    client = client_of(lead)
    first = client.get(reverse("api:images", args=[project.pk]) + "?limit=2").json()

    second = client.get(first["next"]).json()

    assert client.get(second["previous"]).json()["results"] == first["results"]


def test_events_are_read_on_from_the_last_one_seen(client_of, lead, project):
    for name in ("fox", "owl"):
        add_class(project=project, actor=lead, spec=ClassSpec(name))
    client, where = client_of(lead), reverse("api:events", args=[project.pk])
    kinds, after = [], 0

    while page := client.get(f"{where}?after={after}&limit=1").json():
        kinds += [entry["kind"] for entry in page["results"]]
        if not page["results"]:
            break
        after = page["after"]

    assert kinds == ["project.created", "class.added", "class.added"]


@pytest.mark.parametrize("query", ["after=-1", "after=abc", "after=%00", "after=" + "9" * 30])
def test_an_event_id_that_is_none_is_a_400(client_of, lead, project, query):
    where = reverse("api:events", args=[project.pk])

    assert client_of(lead).get(f"{where}?{query}").status_code == 400


def test_a_list_takes_as_many_queries_for_one_row_as_for_many(
    client_of, lead, project, django_assert_max_num_queries
):
    for number in range(20):
        make_member(project, Role.ANNOTATOR)
        services.create_service_token(
            project_id=project.pk, name=f"s{number}", scope=10, actor=lead, now=now()
        )
        services.create_token(user=lead, name="t", now=now(), lifetime=HOUR)
    client = client_of(lead)

    for name in ("members", "service_tokens"):
        with django_assert_max_num_queries(8):
            answer = client.get(reverse(f"api:{name}", args=[project.pk]))
        assert len(answer.json()["results"]) >= 20
    with django_assert_max_num_queries(4):
        assert len(client.get(reverse("api:tokens")).json()["results"]) == 20


def test_a_search_for_percent_signs_finds_percent_signs(client_of, lead, project):
    image = make_images(project, 1)[0]
    project.images.filter(pk=image.pk).update(file_name="100%_sure\\.jpg")
    where = reverse("api:images", args=[project.pk])

    for text in ("%", "_", "\\", "100%_S"):
        found = client_of(lead).get(where, {"q": text}).json()["results"]
        assert [entry["id"] for entry in found] == [image.pk], text
    assert client_of(lead).get(where, {"q": "x" * 10_000}).status_code == 400


def test_a_host_that_is_not_ours_is_refused(client_of, lead):
    answer = client_of(lead).get("/api/v1/me/", headers={"Host": "evil.example"})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


def test_a_new_password_ends_the_sessions_elsewhere(client_of, lead):
    here, elsewhere = client_of(lead), client_of(lead)
    new = "tulips in the rain"

    here.post(
        reverse("password_change"),
        {"old_password": "correct horse", "new_password1": new, "new_password2": new},
    )

    assert here.get("/api/v1/me/").status_code == 200
    assert elsewhere.get("/api/v1/me/").status_code == 401
