"""Headers of every answer: what ties it to its log lines, and how much of a limit is left."""

import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


def request_id(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Give every request an id, repeated in the ``X-Request-ID`` header and in error bodies."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.META["annotator.request_id"] = uuid.uuid4().hex
        response = get_response(request)
        response["X-Request-ID"] = request.META["annotator.request_id"]
        return response

    return middleware


def rate_limit(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send what the API has counted (see ``annotator.accounts.throttling``), with errors too."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in request.META.get("annotator.rate_limit", {}).items():
            response[name] = value
        return response

    return middleware
