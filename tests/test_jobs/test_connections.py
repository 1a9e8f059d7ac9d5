import pytest
from celery.signals import task_postrun, task_prerun
from django.db import OperationalError, connection

import annotator.celery
from annotator.clock import database_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.mark.parametrize("signal", [task_prerun, task_postrun])
def test_a_task_never_starts_with_the_connection_to_a_server_that_is_gone(signal):
    assert annotator.celery.app
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(OperationalError):
        database_now()

    signal.send(sender=None)

    assert database_now()
