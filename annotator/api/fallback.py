"""The answer to an API address that does not exist."""

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.api.problems import Problem


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
def no_such_route(request: Request) -> Response:
    """Answer 404 as problem+json, also below /api/.

    Raises:
        Problem: always.
    """
    raise Problem(404, "not-found", f"There is no API route {request.path} (mind the last slash).")
