"""Whether the installation lives, and whether it can do its work."""

import logging

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse

from annotator.clock import database_now
from annotator.jobs.selectors import silent_queues

logger = logging.getLogger(__name__)


def live(_: HttpRequest) -> JsonResponse:
    """Answer as long as the process does."""
    return JsonResponse({"status": "live"})


def ready(_: HttpRequest) -> JsonResponse:
    """Answer 200 when the database answers; name the queues no worker listens on.

    A missing worker is no reason to take the web process out of service: people can go on
    labeling in the old order. ``?workers=1`` asks for the workers too.
    """
    try:
        silent = silent_queues(now=database_now())
    except (OperationalError, InterfaceError) as error:
        logger.error("the database does not answer: %s", error)
        return JsonResponse({"status": "the database does not answer"}, status=503)
    failed = bool(silent) and bool(_.GET.get("workers"))
    return JsonResponse(
        {"status": "waiting for workers" if silent else "ready", "queues_without_worker": silent},
        status=503 if failed else 200,
    )
