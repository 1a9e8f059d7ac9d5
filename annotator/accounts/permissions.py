"""What a token may be used for, beside what its owner may do."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from annotator.accounts.models import ApiToken, Scope
from annotator.api.problems import Problem


class HasScope(BasePermission):
    """Refuses a token whose scope is too small; a person in the browser has no scope.

    Reading needs ``read``, a write what the view says in ``write_scope``, or else ``manage``.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True.

        Raises:
            Problem: the scope is too small.
        """
        if not isinstance(request.auth, ApiToken):
            return True
        writes = request.method not in SAFE_METHODS
        needed = getattr(view, "write_scope", Scope.MANAGE) if writes else Scope.READ
        if request.auth.scope >= needed:
            return True
        has, wanted = Scope(request.auth.scope).label.lower(), needed.label.lower()
        raise Problem(
            403,
            "scope-missing",
            f"This needs a token with the scope {wanted}; this one has {has}.",
            scope=has,
            needed=wanted,
        )
