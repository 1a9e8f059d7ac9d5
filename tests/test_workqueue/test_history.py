import pytest
from django.db import DatabaseError, connection, transaction
from factories import class_of, make_images, make_member, make_project, make_ranking
from queue_kit import label

from annotator.events.models import Event
from annotator.labeling.models import Annotation, AnnotationRegion

pytestmark = pytest.mark.django_db

STATEMENTS = [
    "UPDATE events_event SET kind = 'nothing'",
    "DELETE FROM events_event",
    "UPDATE labeling_annotation SET author_id = author_id",
    "UPDATE labeling_annotation SET served = '{}'",
    "DELETE FROM labeling_annotation",
    "UPDATE labeling_annotationregion SET label_class_id = label_class_id",
    "DELETE FROM labeling_annotationregion",
]


@pytest.fixture
def labelled():
    project = make_project()
    images = make_images(project, 3)
    make_ranking(project, images)
    label(project, make_member(project), {image.pk: class_of(project) for image in images}, 3)
    return project


def rows():
    tables = (Event, Annotation, AnnotationRegion)
    return [list(table.objects.order_by("pk").values()) for table in tables]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_to_change_or_delete_history(labelled, statement):
    before = rows()
    assert all(before)

    with (
        pytest.raises(DatabaseError, match="only ever added to"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)

    assert rows() == before


def test_which_label_counts_can_change_and_the_former_stays(labelled):
    label_row = Annotation.objects.first()

    Annotation.objects.filter(pk=label_row.pk).update(is_current=False)

    label_row.refresh_from_db()
    assert not label_row.is_current
