import uuid

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from factories import class_of, make_images, make_member, make_project, make_ranking, now

from annotator.accounts.models import Role
from annotator.clock import SQL
from annotator.jobs.models import Job
from workqueue import housekeeping, services
from workqueue.models import QueueState

pytestmark = pytest.mark.django_db

# Tables that grow with the pool or with the labels.
GROWING = [
    "labeling_image", "labeling_annotation", "labeling_annotationregion", "workqueue_rankedimage",
    "workqueue_embedding", "workqueue_submission", "workqueue_lease", "events_event",
]  # fmt: skip
# PostgreSQL is told to go down the ranking, and the choice is looked at once more after it is
# locked.
CLAIM = 6 if connection.vendor == "sqlite" else 8
SUBMIT = 17
STATUS = 6
LIST = 3
CLOCKS = tuple(sql.split("(")[0] for sql in SQL.values())


@pytest.fixture
def queue(client_of):
    """A project of some hundred images with labels and a ranking, and a person who has begun."""

    class Queue:
        project = make_project()
        person = make_member(project, Role.LEAD)
        client = client_of(person)
        api = f"/api/v1/projects/{project.pk}/"
        cls = class_of(project).pk

        def claim(self, n=6):
            return services.claim(user=self.person, project=self.project, n=n, now=now()).leases

        def submit(self, lease):
            return services.submit(
                user=self.person,
                project=self.project,
                key=uuid.uuid4().hex,
                lease_token=str(lease.token),
                class_ids=[self.cls],
                now=now(),
            )

    queue = Queue()
    images = make_images(queue.project, 300)
    make_ranking(queue.project, images[:100])
    for _ in range(3):
        queue.submit(queue.claim()[0])
    return queue


def statements(doing) -> list[dict]:
    """Return the queries something needs, without the marks of transactions."""
    with CaptureQueriesContext(connection) as captured:
        doing()
    marks = ("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT")
    return [query["sql"] for query in captured if not query["sql"].startswith(marks)]


def of_signing_in(sql) -> bool:
    """Whether it is for finding out who asks, and whether they may."""
    tables = ("django_session", "accounts_user", "accounts_membership")
    return any(f'FROM "{table}"' in sql for table in tables) or sql.startswith(CLOCKS)


def scans(sql) -> list[str]:
    """Return the growing tables that the database would read from end to end for a query."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            lines = [row[3] for row in cursor.fetchall()]
            read = [
                line.split()[1] for line in lines
                if line.startswith("SCAN ") and "INDEX" not in line
            ]  # fmt: skip
        else:
            # In so small a table it would rather read all; this shows whether it has to.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
            lines = [row[0] for row in cursor.fetchall()]
            read = [
                line.split("Seq Scan on ")[1].split()[0] for line in lines if "Seq Scan" in line
            ]
    return [table for table in read if table in GROWING]


def test_a_claim_takes_no_more_queries_than_it_may(queue):
    queue.submit(queue.claim()[0])

    assert len(statements(queue.claim)) <= CLAIM


def test_a_label_takes_no_more_queries_than_it_does_now(queue):
    lease = queue.claim()[0]

    assert len(statements(lambda: queue.submit(lease))) <= SUBMIT


@pytest.mark.parametrize(
    ("path", "most"),
    [("queue/status/", STATUS), ("images/", LIST), ("images/?class=CLASS", LIST)],
)
def test_what_is_polled_and_listed_takes_few_queries(queue, path, most):
    path = path.replace("CLASS", str(queue.cls))

    asked = statements(lambda: queue.client.get(f"{queue.api}{path}"))

    own = [sql for sql in asked if not of_signing_in(sql)]
    # The first is the project itself, which access to it needs.
    assert len(own) - 1 <= most, own


@pytest.mark.parametrize(
    "path",
    [
        "queue/status/", "images/", "images/?status=open", "images/?status=labelled",
        "images/?class=CLASS", "images/?status=labelled&class=CLASS", "queue/ranking/",
    ],
)  # fmt: skip
def test_nothing_that_is_listed_reads_a_growing_table_from_end_to_end(queue, path):
    path = path.replace("CLASS", str(queue.cls))

    asked = statements(lambda: queue.client.get(f"{queue.api}{path}"))

    assert [sql for sql in asked if sql.startswith("SELECT") and scans(sql)] == []


def test_images_of_a_class_are_found_through_the_class(queue):
    """Looked for in all images, a rare class would take seconds in a million."""
    asked = statements(lambda: queue.client.get(f"{queue.api}images/?class={queue.cls}"))

    listed = next(sql for sql in asked if "label_class_id" in sql)
    with connection.cursor() as cursor:
        is_sqlite = connection.vendor == "sqlite"
        cursor.execute(f"EXPLAIN {'QUERY PLAN' if is_sqlite else ''} {listed}")
        plan = " ".join(str(row[-1]) for row in cursor.fetchall())
    assert "CORRELATED" not in plan
    assert "SubPlan" not in plan


def test_a_large_project_is_searched_for_lost_embeddings_when_its_counters_differ(
    queue, monkeypatch
):
    monkeypatch.setattr(housekeeping, "LARGE", 100)
    cache.add("all-embeddings-looked-at", True, 3600)
    QueueState.objects.update(n_embedded=300)
    calm = statements(lambda: housekeeping.keep_house(now=now()))
    QueueState.objects.update(n_embedded=299)

    housekeeping.keep_house(now=now())

    assert [sql for sql in calm if "labeling_image" in sql] == []
    assert Job.objects.filter(kind="embed", project=queue.project).exists()


def test_no_claim_and_no_label_reads_a_growing_table_from_end_to_end(queue):
    asked = statements(lambda: queue.submit(queue.claim()[0]))
    asked += statements(lambda: queue.claim(n=20))

    readable = [sql for sql in asked if sql.startswith(("SELECT", "UPDATE"))]
    assert len(readable) > 10
    assert [sql for sql in readable if scans(sql)] == []


@pytest.mark.skipif(connection.vendor == "sqlite", reason="about PostgreSQL's planner")
def test_a_claim_goes_down_the_ranking_whatever_the_statistics_say(queue):
    """There are none in a new database, as there are none of a ranking of this minute."""
    with transaction.atomic():
        claimed = statements(lambda: queue.claim(n=20))
        asked = next(sql for sql in claimed if 'FROM "workqueue_rankedimage"' in sql)
        with connection.cursor() as cursor:
            cursor.execute("SHOW enable_sort")
            may_sort = cursor.fetchone()
            cursor.execute(f"EXPLAIN {asked}")
            plan = "\n".join(row[0] for row in cursor.fetchall())

    assert may_sort == ("off",)
    assert "Sort" not in plan
    assert "using ranked_to_do on workqueue_rankedimage" in plan


def test_a_query_without_an_index_is_noticed():
    assert scans("SELECT id FROM labeling_image WHERE note = 'x'") == ["labeling_image"]
