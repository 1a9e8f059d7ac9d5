"""If-Match: whoever changes something says which version of it they saw."""

from rest_framework.request import Request

from annotator.api.problems import Problem


def if_match(request: Request) -> str | None:
    """Return the version the request is for; None for any (no header, or ``*``)."""
    text = request.headers.get("If-Match", "").strip()
    return None if text in {"", "*"} else text.removeprefix("W/").strip('"')


def version_of(request: Request) -> int | None:
    """Return the version as a number; None for any.

    Raises:
        Problem: 412, it is none: what the client saw is not there.
    """
    text = if_match(request)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(412, "version-mismatch", "If-Match is not a version of this object.")
    return int(text)


def require_if_match(request: Request, what: str) -> None:
    """See that the request names a version.

    Raises:
        Problem: 428, it does not.
    """
    if not request.headers.get("If-Match", "").strip():
        raise Problem(
            428,
            "condition-required",
            f"Send If-Match with the ETag of {what} you saw, so that no newer one is overwritten "
            "unseen; or If-Match: * to change it whatever it is by now.",
        )
