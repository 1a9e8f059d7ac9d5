"""Holds what the API does in the tests against what its schema says."""

import copy
import json
import re
from functools import cache
from typing import Any

import jsonschema_rs
from django.test import Client

from annotator.api.contract import Either
from annotator.api.problem_codes import CODES
from annotator.api.schema import api_schema, operation_of
from annotator.api.serializers import StrictSerializer
from annotator.api.views import Nothing

API = "/api/v1/"
OK = range(200, 400)


class ContractBrokenError(AssertionError):
    """The server and the schema do not say the same."""


def template_of(route: str) -> str:
    """Return the path of the schema for a route of Django."""
    return "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", route)


def check_answer(method: str, response: Any) -> None:
    """See that the schema knows this answer to this request.

    Raises:
        ContractBrokenError: it does not; the text says what differs.
        ContractMissingError: the view says nothing; the text says what to write.
    """
    if method == "OPTIONS" or response.status_code >= 500:
        return
    path = template_of(response.resolver_match.route)
    where = f"{method} {path} answered {response.status_code}"
    operations = api_schema()["paths"].get(path, {})
    operation = operations.get(method.lower()) or (
        operations.get("get") if method == "HEAD" else None
    )
    if operation is None:
        if response.status_code in OK:
            operation_of(response.resolver_match.func.view_class, method)
        check_problem(where, response)
        return
    said = _said(operation, response.status_code)
    if said is None:
        raise ContractBrokenError(f"{where}, which the schema does not know: {body_of(response)}")
    for header in said.get("headers", {}):
        if header not in response and header not in _SOMETIMES:
            raise ContractBrokenError(f"{where} without the header {header}")
    if response.status_code not in OK:
        check_problem(where, response)
        code = json.loads(response.content)["code"] if method != "HEAD" else said["x-codes"][0]
        if code not in said["x-codes"]:
            raise ContractBrokenError(f"{where} {code}, and the schema knows {said['x-codes']}")
    elif method != "HEAD":
        _check_body(where, said, response)


# Only with the last piece of an upload.
_SOMETIMES = {"X-Import-Id"}


def _said(operation: dict[str, Any], status: int) -> Any:
    said = operation["responses"].get(str(status))
    if said and "$ref" in said:
        return api_schema()["components"]["responses"][said["$ref"].rpartition("/")[2]]
    return said


def _check_body(where: str, said: dict[str, Any], response: Any) -> None:
    content = said.get("content")
    if content is None:
        if body_of(response):
            raise ContractBrokenError(f"{where} with a body, and the schema says there is none")
        return
    if "*/*" in content:  # a file of whatever type was asked for
        return
    media_type = response["Content-Type"].partition(";")[0]
    if media_type not in content:
        raise ContractBrokenError(f"{where} as {media_type}; the schema knows {list(content)}")
    if media_type == "application/json":
        check_json(where, content[media_type]["schema"], json.loads(response.content))


def check_problem(where: str, response: Any) -> None:
    """See that a refusal is a problem of the schema."""
    if not body_of(response):  # the answer to a HEAD
        return
    if response["Content-Type"] != "application/problem+json":
        raise ContractBrokenError(f"{where} as {response['Content-Type']}, not problem+json")
    problem = json.loads(response.content)
    check_json(where, {"$ref": "#/components/schemas/Problem"}, problem)
    if CODES.get(problem["code"], (0, ""))[0] != response.status_code:
        raise ContractBrokenError(f"{where} with the code {problem['code']} of another status")


def check_json(where: str, schema: dict[str, Any], found: Any) -> None:
    """See that JSON has the shape the schema says, and no field more."""
    error = next(_validator(json.dumps(schema)).iter_errors(found), None)
    if error:
        place = "/".join(str(step) for step in error.instance_path)
        raise ContractBrokenError(f"{where}, and at /{place}: {error.message[:300]}")


def body_of(response: Any) -> bytes:
    return b"" if response.streaming else response.content


@cache
def _validator(schema: str) -> Any:
    whole = {**json.loads(schema), "components": _strict_components()}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


@cache
def _strict_components() -> dict[str, Any]:
    """Return the components, each object with exactly the fields it names.

    Programs have to put up with new fields, so the schema does not say this; the tests do.
    """
    found: dict[str, Any] = copy.deepcopy({"schemas": api_schema()["components"]["schemas"]})
    for shape in found["schemas"].values():
        if "properties" in shape:
            shape.setdefault("additionalProperties", False)
    return found


# --- What the views do with bodies ---------------------------------------------------------------


def check_parsed(response: Any, parsed: set[type[StrictSerializer]]) -> None:
    """See that a view has read the body and the parameters it declares, and nothing else."""
    view = getattr(response.resolver_match.func, "view_class", None)
    declared: set[Any] = {Nothing, getattr(view, "query", None)}
    for operation in getattr(view, "contract", {}).values():
        bodies = operation.body.values() if isinstance(operation.body, dict) else [operation.body]
        for body in bodies:
            declared |= set(body.shapes) if isinstance(body, Either) else {body}
    # Of many in one body each is read as one alone is.
    other = {entry for entry in parsed if not declared & set(entry.__mro__)}
    if other:
        names = sorted(entry.__name__ for entry in other)
        raise ContractBrokenError(f"{view} reads {names}, which its contract does not name")


def watch(patch: Any) -> None:
    """Check every answer that Django's and the framework's test clients get."""
    plain, is_valid = Client.request, StrictSerializer.is_valid
    parsed: set[type[StrictSerializer]] = set()

    def noted(self: StrictSerializer, **options: Any) -> bool:
        parsed.add(type(self))
        return is_valid(self, **options)

    def request(self: Client, **environment: Any) -> Any:
        parsed.clear()
        response = plain(self, **environment)
        if str(environment.get("PATH_INFO", "")).startswith(API):
            check_answer(environment["REQUEST_METHOD"], response)
            check_parsed(response, parsed)
        return response

    patch.setattr(StrictSerializer, "is_valid", noted)
    patch.setattr(Client, "request", request)
