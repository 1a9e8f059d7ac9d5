"""One header that ties an answer to its log lines."""

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
