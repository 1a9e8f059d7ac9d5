"""The base of every view of the API."""

from collections.abc import Collection, Mapping
from typing import Any

from django.utils import timezone
from rest_framework import serializers, views
from rest_framework.request import Request

from annotator.accounts import services as accounts
from annotator.accounts.models import Scope
from annotator.accounts.permissions import refuse_small_scope
from annotator.accounts.secrets import is_well_formed
from annotator.api.contract import Operation
from annotator.api.idempotency import answer_once
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer

WRITES = {"post", "put", "patch", "delete"}
TOKEN_PARAMETERS = {"token", "access_token", "api_key", "auth_token"}


UNKNOWN_PARAMETER = serializers.ErrorDetail("This parameter is not known.", "unknown-field")
DOUBLED_PARAMETER = serializers.ErrorDetail("Give it once.", "invalid")


class Nothing(StrictSerializer):
    """The body of a request that needs none."""


class APIView(views.APIView):
    """A view of the API: DRF's, and what every route of ours promises."""

    # What a token needs to read here, and to write.
    read_scope = Scope.READ
    write_scope = Scope.MANAGE
    # Whether an idempotency key is for us; views whose writes can be repeated anyway say no.
    answers_once = True
    # The methods whose work is no single transaction: they ask a name server, or go in steps so
    # that nobody waits for them. Their answer is stored after it.
    in_steps: Collection[str] = ()
    # What an address may say after its question mark.
    parameters: Collection[str] = ()
    # The methods that take no body.
    without_body: Collection[str] = ("delete",)
    # What an answer shows once: it is not stored with the answer to an idempotency key.
    secret_fields: tuple[str, ...] = ()
    # For each method what it takes and answers; the schema is made of it.
    contract: Mapping[str, Operation] = {}
    # The serializer that says what the parameters are.
    query: type[StrictSerializer] | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who asks and what every request has to look like.

        Raises:
            Problem: the request is refused.
        """
        _refuse_token_in_address(request)
        super().initial(request, *args, **kwargs)
        # After the request is counted: one that is refused was a request, too.
        refuse_small_scope(request, self)
        self._check_parameters(request)
        method = (request.method or "").lower()
        if method in self.without_body:
            Nothing(data=request.data).is_valid(raise_exception=True)
        if method in WRITES and self.takes_key(request) and "Idempotency-Key" in request.headers:
            handler = getattr(self, method, self.http_method_not_allowed)
            # DRF looks the handler up next.
            once = answer_once(handler, self.secret_fields, in_steps=method in self.in_steps)
            setattr(self, method, once)

    def takes_key(self, request: Request) -> bool:
        """Return whether the answer to this write is kept for its idempotency key."""
        return self.answers_once

    def _check_parameters(self, request: Request) -> None:
        # A misspelt filter must not silently answer with everything.
        errors: dict[str, serializers.ErrorDetail] = {}
        for name, values in request.query_params.lists():
            if name not in self.parameters:
                errors[name] = UNKNOWN_PARAMETER
            elif len(values) > 1:
                errors[name] = DOUBLED_PARAMETER
        if errors:
            raise serializers.ValidationError(errors)


def _refuse_token_in_address(request: Request) -> None:
    # Addresses are kept by proxies, logs and browsers: a secret in one has leaked.
    for name, value in request.query_params.items():
        if is_well_formed(str(value)):
            accounts.note_token_in_address(secret=str(value), now=timezone.now())
        elif name not in TOKEN_PARAMETERS:
            continue
        raise Problem(
            400,
            "token-in-address",
            "A token must never stand in an address. Send it in the header Authorization, "
            "and replace this one: it may be in a log by now.",
        )
