"""What a token may be used for, beside what its owner may do."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from annotator.accounts.models import ApiToken, Scope
from annotator.api.problems import Problem


def refuse_small_scope(request: Request, view: Any) -> None:
    """See that a token may be used for the request; a person in the browser has no scope.

    Args:
        request: what is asked.
        view: says in ``read_scope`` and ``write_scope`` what it needs.

    Raises:
        Problem: the scope is too small.
    """
    if not isinstance(request.auth, ApiToken):
        return
    needed = view.read_scope if request.method in SAFE_METHODS else view.write_scope
    if request.auth.scope >= needed:
        return
    has, wanted = Scope(request.auth.scope).label.lower(), needed.label.lower()
    raise Problem(
        403,
        "scope-missing",
        f"This needs a token with the scope {wanted}; this one has {has}.",
        scope=has,
        needed=wanted,
    )
