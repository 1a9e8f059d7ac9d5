"""Whether the installation lives, and whether it can do its work."""

from django.db import connection
from django.http import HttpRequest, JsonResponse

from annotator.clock import database_now
from annotator.jobs.selectors import silent_queues


def live(_: HttpRequest) -> JsonResponse:
    """Answer as long as the process does."""
    return JsonResponse({"status": "live"})


def ready(_: HttpRequest) -> JsonResponse:
    """Answer 200 when the database answers; name the queues no worker listens on.

    A missing worker is no reason to take the web process out of service: people can go on
    labeling in the old order. ``?workers=1`` asks for the workers too.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    silent = silent_queues(now=database_now())
    failed = bool(silent) and bool(_.GET.get("workers"))
    return JsonResponse(
        {"status": "waiting for workers" if silent else "ready", "queues_without_worker": silent},
        status=503 if failed else 200,
    )
