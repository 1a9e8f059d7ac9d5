"""The database keeps the history, whoever writes to it: direct SQL is refused too."""

import uuid

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from factories import class_of, make_images, make_member, make_project, now

from annotator.events import history
from annotator.labeling.models import Annotation
from workqueue import services

pytestmark = pytest.mark.django_db
HISTORY = [apps.get_model(name) for name in history.HISTORY]
MAY_CHANGE = {
    (apps.get_model(name)._meta.db_table, column)
    for name, columns in history.HISTORY.items()
    for column in columns
}
COLUMNS = [
    (model._meta.db_table, field.column)
    for model in HISTORY
    for field in model._meta.concrete_fields
]
FROZEN = [column for column in COLUMNS if column not in MAY_CHANGE]


@pytest.fixture(autouse=True)
def submitted():
    """One label, which leaves a row in each table of the history."""
    project = make_project()
    make_images(project, 2)
    user = make_member(project)
    (lease,) = services.claim(user=user, project=project, n=1, now=now()).leases
    return services.submit(
        user=user,
        project=project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(project).pk],
        now=now(),
    )


def execute(sql):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.rowcount


@pytest.mark.parametrize(("table", "column"), FROZEN, ids=".".join)
def test_no_column_of_the_history_can_be_changed(table, column):
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        execute(f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("model", HISTORY)
def test_no_row_of_the_history_can_be_deleted(model):
    table = model._meta.db_table
    rows = list(model.objects.values())

    with pytest.raises(IntegrityError, match="never changed or deleted"):
        execute(f"DELETE FROM {table}")

    assert rows
    assert list(model.objects.values()) == rows


def test_a_label_may_cease_to_be_the_current_one():
    assert execute("UPDATE labeling_annotation SET is_current = (1 = 0)") == 1


def test_what_the_history_names_cannot_be_deleted_from_under_it(submitted):
    """Not even an empty project, or a person who only made it: the log tells of both."""
    annotation = Annotation.objects.get(pk=submitted.answer["annotation"])
    empty = make_project()

    for named in (annotation, annotation.author, empty, empty.created_by):
        with pytest.raises(ProtectedError):
            named.delete()


def test_labels_are_still_edited_and_undone(submitted):
    annotation = Annotation.objects.get(pk=submitted.answer["annotation"])
    person, project = annotation.author, annotation.image.project

    dog = class_of(project, "dog")
    edited = services.edit(annotation=annotation, actor=person, class_ids=[dog.pk])
    services.undo(user=person, project=project, annotation_id=edited.pk, now=now())

    actions = Annotation.objects.order_by("pk").values_list("action", "is_current")
    assert list(actions) == [("label", False), ("edit", False), ("withdraw", False)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_clearing_the_database_after_a_test_leaves_the_triggers_in_place(turn):
    """The second turn runs after the first was cleared away."""
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        execute("DELETE FROM events_event")
