import resource
from contextlib import contextmanager

import numpy as np
import psycopg.errors
import pytest
from django.db import InterfaceError, OperationalError, connection
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_ranking
from load_kit import in_processes

from annotator.labeling.models import Annotation
from ml import embedding_store, heads
from workqueue.models import Submission

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def full_database():
    """Leave no room: really on SQLite, by PostgreSQL's own error there."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0] + 2}")
            yield
            cursor.execute("PRAGMA max_page_count = 4294967294")
        return

    def refuse(execute, sql, *more):
        if sql.startswith("INSERT"):
            raise OperationalError("no room") from psycopg.errors.DiskFull()
        return execute(sql, *more)

    with connection.execute_wrapper(refuse):
        yield


def test_a_full_database_refuses_with_507_keeps_what_it_has_and_goes_on_when_there_is_room(
    client_of,
):
    project = make_project()
    make_ranking(project, make_images(project, 40))
    client = client_of(make_member(project))
    address = {name: reverse(f"api:{name}", args=[project.pk]) for name in ("claim", "submit")}
    leases = client.post(address["claim"], {"n": 20}, "json").json()["leases"]
    requests = [
        {"lease": lease["token"], "class_ids": [class_of(project).pk], "key": lease["token"]}
        for lease in leases
    ]

    with full_database():
        answers = [client.post(address["submit"], body, "json") for body in requests]
        assert client.get(reverse("api:status", args=[project.pk])).status_code == 200

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 507}
    assert 507 in statuses
    assert answers[-1].json()["code"] == "storage-full"
    assert Annotation.objects.count() == Submission.objects.count() == statuses.count(201)
    again = [client.post(address["submit"], body, "json") for body in requests]
    assert [answer.status_code for answer in again] == [
        200 if status == 201 else 201 for status in statuses
    ]
    project.refresh_from_db()
    assert project.n_labelled == Annotation.objects.count() == 20


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_does_not_answer_is_a_503_that_says_when_to_come_again(client_of, error):
    project = make_project()
    client = client_of(make_member(project))

    def fail(*_):
        raise error("the connection is closed")

    with connection.execute_wrapper(fail):
        answer = client.post(reverse("api:claim", args=[project.pk]), {"n": 1}, "json")

    assert answer.status_code == 503
    assert answer.json()["code"] == "database-unavailable"
    assert int(answer["Retry-After"]) >= 1


def write_segment(folder):
    embedding_store.write_segment(folder, np.zeros((1000, 8)))


def write_head(folder):
    head = heads.LogisticHead(np.zeros((1000, 8)), np.zeros(1000), np.zeros(8), 1.0)
    heads.save_head(head, folder / "1", {})


@pytest.mark.parametrize("write", [write_segment, write_head])
def test_a_file_the_disk_has_no_room_for_is_an_error_and_leaves_nothing(tmp_path, write):
    def write_with_little_room():
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, most))
        try:
            write(tmp_path)
        except OSError:
            return ["refused"]
        return ["written"]

    assert in_processes([write_with_little_room]) == ["refused"]

    assert list(tmp_path.rglob("*")) == []
