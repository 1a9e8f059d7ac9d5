"""A million rows in a minute: what an installation of this size has in its database."""

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Model

from annotator.accounts.models import Membership, Role, User
from annotator.clock import database_now
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, AnnotationRegion, Image, Project
from benchmarks.queue_load.stock import CLASSES, Stock, key_of
from workqueue import services
from workqueue.models import Embedding, Lease, QueueState, RankedImage, Ranking, Segment
from workqueue.requests import settings_of, state_of

AT_ONCE = 20_000
# One image in a hundred has a label already.
LABELLED_EVERY = 100
# One label in so many is of the last class.
RARE_EVERY = 1000
# Nothing starts a round by itself with so many labels a batch.
NO_ROUNDS = 10_000


@dataclass(frozen=True)
class Made:
    """The projects of an installation under load."""

    large: Project
    drained: Project
    worn: Project
    lead: User


def seed(stock: Stock) -> None:
    """Write the rows of the three projects into an empty database."""
    lead = User.objects.create_user("lead")
    projects = [_project(lead, name) for name in ("Large", "Drained", "Worn")]
    with _without_indexes(Image, Embedding, Annotation, AnnotationRegion, RankedImage):
        _seed_images(stock, projects)
        _seed_embeddings(stock, projects[0])
        _seed_no_embeddings(stock, projects[1:])
        _seed_labels(projects[0], lead, range(LABELLED_EVERY, stock.n_images + 1, LABELLED_EVERY))
        first = stock.n_images + stock.n_drained
        worn = list(range(first + 1, first + stock.n_worn + 1))
        random.Random(3).shuffle(worn)
        done = worn[: len(worn) * 3 // 4]
        _seed_labels(projects[2], lead, done)
        order_by(projects[2], worn, done=set(done))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _project(lead: User, name: str) -> Project:
    project = labeling.create_project(
        actor=lead,
        name=name,
        kind=Project.Kind.ONE_CLASS,
        classes=[labeling.ClassSpec(f"class {number}") for number in range(CLASSES)],
    )
    state_of(project)
    services.change_settings(project=project, actor=lead, changes={"batch_size": NO_ROUNDS})
    return project


def _seed_images(stock: Stock, projects: Sequence[Project]) -> None:
    now, total = database_now(), sum(stock.sizes)
    numbers = itertools.count(1)

    def rows() -> Iterator[tuple[Any, ...]]:
        for project, size in zip(projects, stock.sizes, strict=True):
            for number in itertools.islice(numbers, size):
                key = key_of(number, total)
                yield (
                    number, project.pk, key.hex, Image.random_key_of(key), key.hex * 2,
                    f"{number:07d}.jpg", "jpg", 300_000, 1600, 1200, "open", "", "", now,
                )  # fmt: skip

    names = (
        "id project_id key random_key sha256 file_name file_format n_bytes width height status "
        "note external_id created_at"
    )
    write(Image, names, rows())
    for project, size in zip(projects, stock.sizes, strict=True):
        Project.objects.filter(pk=project.pk).update(n_images=size)


def _seed_embeddings(stock: Stock, project: Project) -> None:
    numbers = itertools.count(1)
    for entry in stock.segments():
        segment = Segment.objects.create(
            project=project,
            backbone=settings.BACKBONE,
            name=entry["name"],
            n_rows=entry["rows"],
            dim=entry["dim"],
            sha256=entry["sha256"],
        )
        rows = ((next(numbers), segment.pk, row, "") for row in range(entry["rows"]))
        write(Embedding, "image_id segment_id row error", rows)
    QueueState.objects.filter(project=project).update(n_embedded=stock.n_images)


def _seed_no_embeddings(stock: Stock, projects: Sequence[Project]) -> None:
    """Say of the small projects' images that they cannot be embedded: no worker will try."""
    number = stock.n_images
    for project, size in zip(projects, stock.sizes[1:], strict=True):
        rows = ((pk, 0, "generated") for pk in range(number + 1, number + size + 1))
        write(Embedding, "image_id row error", rows)
        QueueState.objects.filter(project=project).update(n_embedding_failures=size)
        number += size


def _seed_labels(project: Project, author: User, image_ids: Sequence[int]) -> None:
    now = database_now()
    classes = list(project.classes.values_list("pk", flat=True))
    last = Annotation.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    write(
        Annotation,
        "id image_id author_id action outcome source is_current served created_at",
        (
            (pk, image_id, author.pk, "label", "accepted", "person", True, "{}", now)
            for pk, image_id in enumerate(image_ids, last + 1)
        ),
    )
    write(
        AnnotationRegion,
        "annotation_id label_class_id shape",
        (
            (pk, classes[_class_index(turn)], "image")
            for turn, pk in enumerate(range(last + 1, last + 1 + len(image_ids)))
        ),
    )
    for start in range(0, len(image_ids), AT_ONCE):
        wanted = ", ".join(map(str, image_ids[start : start + AT_ONCE]))
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE labeling_image SET status = 'labelled' WHERE id IN ({wanted})")
    counted = Project.objects.filter(pk=project.pk)
    counted.update(n_labelled=len(image_ids), n_labels=len(image_ids))


def _class_index(turn: int) -> int:
    """Return the class of a label: the last one is rare."""
    return CLASSES - 1 if turn % RARE_EVERY == 0 else turn % (CLASSES - 1)


def write(model: type[Model], names: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows the fastest way the database has: COPY, or executemany in one transaction."""
    columns = ", ".join(f'"{name}"' for name in names.split())
    table = model._meta.db_table
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f'COPY "{table}" ({columns}) FROM STDIN') as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(names.split()))
            raw = connection.connection
            raw.executemany(
                f'INSERT INTO "{table}" ({columns}) VALUES ({marks})',
                (_plain(row, names) for row in rows),
            )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
                cursor.execute(statement)


def _plain(row: tuple[Any, ...], names: str) -> tuple[Any, ...]:
    # SQLite keeps times as text; the only ones are last.
    if names.endswith("created_at"):
        return (*row[:-1], row[-1].strftime("%Y-%m-%d %H:%M:%S.%f"))
    return row


@contextmanager
def _without_indexes(*models: type[Model]) -> Iterator[None]:
    """Build the indexes of the models' tables after the rows: it takes a fraction of the time."""
    tables = [model._meta.db_table for model in models]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND NOT "
                "EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)",
                [tables],
            )
        else:
            cursor.execute("PRAGMA foreign_keys=OFF")
            cursor.execute("PRAGMA synchronous=OFF")
            marks = ", ".join(["%s"] * len(tables))
            cursor.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
                f"AND tbl_name IN ({marks})",
                tables,
            )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
    yield
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET maintenance_work_mem = '512MB'")
        for _, statement in indexes:
            cursor.execute(statement)
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = DEFAULT")
    connection.close()


def made() -> Made:
    """Return the projects of the database at hand."""
    large, drained, worn = Project.objects.order_by("pk")[:3]
    return Made(large, drained, worn, User.objects.get(username="lead"))


def sessions(project: Project, n: int) -> list[str]:
    """Return the session keys of so many people who are members of the project and signed in."""
    known = list(User.objects.filter(username__startswith="person-").order_by("pk"))
    known += [
        User.objects.create(username=f"person-{number:03d}", password="!")
        for number in range(len(known), n)
    ]
    for user in known[:n]:
        Membership.objects.get_or_create(
            project=project, user=user, defaults={"role": Role.ANNOTATOR}
        )
    return [sign_in(user) for user in known[:n]]


def sign_in(user: User) -> str:
    """Return the key of a new session of the person."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


def new_order(project: Project, n: int, seed: int) -> list[int]:
    """Give the project a ranking of open images drawn at random, and end all leases."""
    Lease.objects.filter(project=project, state=Lease.State.LIVE).update(state=Lease.State.RELEASED)
    open_images = Image.objects.filter(project=project, status=Image.Status.OPEN)
    ids = list(open_images.order_by("random_key").values_list("pk", flat=True)[: 2 * n])
    random.Random(seed).shuffle(ids)
    order_by(project, ids[:n])
    return ids[:n]


def order_by(project: Project, order: Sequence[int], done: Iterable[int] = ()) -> None:
    """Write a ranking and point to it, as a round does."""
    finished = set(done)
    last = Ranking.objects.filter(project=project).order_by("-number").first()
    ranking = Ranking.objects.create(
        project=project,
        number=last.number + 1 if last else 1,
        kind=Ranking.Kind.HEURISTIC,
        heuristic="margin",
        n_pool=project.n_images or len(order),
        n_candidates=project.n_images or len(order),
        n_positions=len(order),
    )
    classes = list(project.classes.values_list("pk", flat=True))
    tops = json.dumps([[classes[0], 0.4], [classes[1], 0.35], [classes[2], 0.1]])
    write(
        RankedImage,
        "ranking_id position image_id score explored top_classes is_done",
        (
            (ranking.pk, place, image, 1 - place / len(order), False, tops, image in finished)
            for place, image in enumerate(order, 1)
        ),
    )
    QueueState.objects.filter(project=project).update(ranking=ranking)


def set_batch_size(project: Project, actor: User, size: int) -> None:
    """Change how many labels start a round."""
    if settings_of(project).batch_size != size:
        services.change_settings(project=project, actor=actor, changes={"batch_size": size})
