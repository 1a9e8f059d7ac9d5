"""Prepared queries find and change what the query sets they are made of would."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Exists, F, IntegerField, OuterRef
from django.db.transaction import TransactionManagementError, atomic
from django.test.utils import CaptureQueriesContext
from factories import make_images, make_member, make_project, now

from annotator.labeling.models import Image, Project
from annotator.prepared import Given, Prepared, PreparedUpdate, insert, insert_all
from workqueue.models import Lease

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


def lease(image, user, **fields):
    times = {"granted_at": now(), "expires_at": now() + timedelta(minutes=1)}
    return Lease.objects.create(
        image=image, project=image.project, user=user, served={"kind": "direct"}, **times | fields
    )


def test_each_run_has_its_own_values(project):
    first, second = make_images(project, 2)
    query = Prepared(lambda: Image.objects.filter(key=Given("key")))

    assert query.first(key=first.key) == first
    assert query.first(key=second.key) == second
    assert query.first(key=uuid.uuid4()) is None
    assert query.all(key=uuid.uuid4()) == []


def test_rows_are_whole_objects_with_their_related_ones(project):
    (image,) = make_images(project, 1)
    person = make_member(project)
    given = lease(image, person)
    query = Prepared(
        lambda: Lease.objects.select_related("image").filter(user=Given("user")).order_by("pk")
    )

    (found,) = query.all(user=person)
    (expected,) = Lease.objects.select_related("image").filter(user=person)

    assert found == given
    fields = [field.attname for field in Lease._meta.concrete_fields]
    assert [getattr(found, name) for name in fields] == [getattr(expected, name) for name in fields]
    with CaptureQueriesContext(connection) as asked:
        assert found.image.file_name == image.file_name
        assert found.image.key == image.key
    assert list(asked) == []
    found.slot = 3
    found.save()
    assert Lease.objects.get().slot == 3


def test_columns_can_be_read_alone(project):
    images = make_images(project, 3)
    living = Image.objects.filter(project=project)
    pairs = Prepared(lambda: living.order_by("-pk").values_list("pk", "key")[:2])
    flat = Prepared(lambda: living.order_by("pk").values_list("pk", flat=True))

    assert pairs.all() == [(image.pk, image.key) for image in images[:0:-1]]
    assert flat.all() == [image.pk for image in images]


def test_values_reach_into_subqueries_and_beside_constants(project):
    mine, others = make_images(project, 2)
    anna, ben = make_member(project), make_member(project)
    lease(mine, anna)
    lease(others, ben)
    held = Lease.objects.filter(
        image=OuterRef("pk"), user=Given("user"), state="live", expires_at__gt=Given("now")
    )
    query = Prepared(lambda: Image.objects.filter(~Exists(held), status="open", width=640))

    assert query.all(user=anna, now=now()) == [others]
    assert query.all(user=ben, now=now()) == [mine]
    assert query.all(user=ben, now=now() + timedelta(hours=1)) == [mine, others]


def test_a_value_can_be_calculated_with(project):
    make_images(project, 3)
    count = PreparedUpdate(
        lambda: Project.objects.filter(pk=Given("project")),
        n_images=F("n_images") + Given("more", IntegerField()),
        name=Given("name"),
    )

    assert count.run(project=project, more=2, name="It's 100 %s") == 1
    assert count.run(project=make_project(), more=1, name="Another") == 1

    project.refresh_from_db()
    assert (project.n_images, project.name) == (5, "It's 100 %s")


def test_the_sql_is_built_once(project):
    calls = []

    def build():
        calls.append(1)
        return Image.objects.filter(project=Given("project"))

    query = Prepared(build)
    for _ in range(3):
        query.all(project=project)

    assert len(calls) == 1


def test_a_value_that_is_not_given_is_told_by_its_name(project):
    query = Prepared(lambda: Image.objects.filter(project=Given("project")))

    with pytest.raises(KeyError, match="project"):
        query.all()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks no rows")
@pytest.mark.django_db(transaction=True)
def test_rows_are_locked_in_a_transaction_only():
    query = Prepared(lambda: Project.objects.select_for_update())
    with atomic():
        query.all()

    with pytest.raises(TransactionManagementError):
        query.all()


def test_constants_are_written_into_the_sql(project):
    """A planner can use an index of open images only if it sees that open ones are asked for."""
    make_images(project, 1)
    query = Prepared(
        lambda: Image.objects.filter(
            project=Given("project"), status="open", note="it's 100 %s", width__gt=5
        )
    )

    assert query.all(project=project) == []
    assert "'open'" in query._built._statement._sql
    assert "it''s 100 %%s" in query._built._statement._sql


def test_a_new_object_is_inserted_as_saving_would(project):
    (image,) = make_images(project, 1)
    times = {"granted_at": now(), "expires_at": now()}
    fields = {"image": image, "project": project, "served": {"a": [1, None]}, "slot": 0, **times}
    one, two = make_member(project), make_member(project)

    first = insert(Lease(user=one, state="released", **fields))
    second, third = insert_all(
        [Lease(user=two, state="released", client=name, **fields) for name in "ab"]
    )

    assert Lease.objects.get(pk=first.pk) == first
    assert Lease.objects.get(pk=first.pk).served == {"a": [1, None]}
    assert Lease.objects.get(pk=first.pk).token == first.token
    assert [Lease.objects.get(pk=row.pk).client for row in (second, third)] == ["a", "b"]
    first.slot = 2
    first.save()
    assert Lease.objects.get(pk=first.pk).slot == 2
