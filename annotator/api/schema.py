"""The OpenAPI schema, made of what the views declare (``annotator.api.contract``)."""

import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

from annotator.accounts.models import Role, Scope
from annotator.api import contract as c
from annotator.api.contract import Answer, Either, File, Operation
from annotator.api.paging import LARGEST_PAGE
from annotator.api.problem_codes import CODES
from annotator.api.serializers import StrictSerializer

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
PROBLEM_TYPE = "application/problem+json"
# What stands in addresses, and what may stand after the question mark of a list.
PATH_TYPES: dict[str, dict[str, Any]] = {
    "id": {"type": "integer", "format": "int64", "minimum": 1},
    "uuid": {"type": "string", "format": "uuid"},
    "str": {"type": "string"},
    "slug": {"type": "string"},
}
PATH_MEANINGS = {
    "token": "the token of the lease",
    "key": "the key of the upload, as in its Location",
    "user_id": "the user, as in the list of members",
}
LIST_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "cursor": ({"type": "string"}, "from the next or previous of another page of this list"),
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE},
        "the most rows a page may have; 50 where nothing else is said",
    ),
    "after": (
        {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "the id of the last event that was read; 0 or nothing: from the beginning",
    ),
}
_BYTES: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "Idempotency-Key": (
        {"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[\\x20-\\x7e]+$"},
        "new and random for each request, the same when it is repeated: it is then done once",
    ),
    "If-Match": (
        {"type": "string"},
        "the ETag of what you saw, so that no newer one is overwritten unseen; * for any",
    ),
    "If-None-Match": ({"type": "string"}, "the ETag you have: 304 when nothing changed since"),
    "ETag": ({"type": "string"}, "the version, for If-Match"),
    "Range": ({"type": "string"}, "bytes=N-: go on from there with a download that was cut off"),
    "If-Range": ({"type": "string"}, "the ETag of what was begun: all of it, when it is another"),
    "Location": ({"type": "string"}, "the address of what was made"),
    "Upload-Length": (_BYTES, "size of the whole file in bytes"),
    "Upload-Offset": (_BYTES, "bytes that are here already"),
    "Upload-Metadata": ({"type": "string"}, "tus: filename and its name in base64"),
    "Tus-Resumable": ({"type": "string"}, "the version of tus, 1.0.0"),
    "X-Import-Id": ({"type": "string"}, "the import that has started, with the last piece"),
}
TAGS = {
    "Account": "Who is asking, and the tokens programs sign in with.",
    "Projects": "What is labelled, and how it is called.",
    "Classes": "The label set of a project.",
    "Images": "Adding pictures, and finding them again.",
    "Uploads and imports": "Zips in pieces, and lists of web addresses: done in the background.",
    "People": "Members of a project, invitations, and service tokens.",
    "Queue": "Which image is labelled next, by whom, and what was said of it.",
    "Labels": "What people said of images, and how that changed.",
    "Predictions": "Probabilities of a model of your own, which can order the queue.",
    "Rounds and models": "Training and ranking, the models it made, and comparisons of heuristics.",
    "Figures and events": "The learning curve, and the feed of everything that happened.",
    "Exports": "All labels of one moment as a file, in the formats of other tools.",
    "Webhooks": "Events sent to an address of yours, signed.",
    "This description": "The contract of the API itself.",
}
# The group of a route, by the first word of its address that is here.
_TAG_OF = {
    "me": "Account", "tokens": "Account", "projects/tokens": "People", "schema": "This description",
    "classes": "Classes", "images": "Images", "uploads": "Uploads and imports",
    "imports": "Uploads and imports", "members": "People", "invitations": "People",
    "queue": "Queue", "annotations": "Labels", "predictions": "Predictions",
    "rounds": "Rounds and models", "models": "Rounds and models", "replays": "Rounds and models",
    "jobs": "Rounds and models", "metrics": "Figures and events", "events": "Figures and events",
    "exports": "Exports", "webhooks": "Webhooks", "deliveries": "Webhooks", "archived": "Projects",
    "restore": "Projects", "projects": "Projects",
}  # fmt: skip


class ProblemErrorOut(Answer):
    """What is wrong with one field or parameter."""

    pointer = c.text("JSON pointer to the field, or / and the name of the parameter")
    code = c.text("such as required, invalid or unknown-field")
    message = c.text("for people")


class ProblemOut(Answer):
    """A refusal (RFC 9457). Some codes have more members, such as current or needed."""

    type = c.text("urn:annotator:problem: and the code")
    title = c.text("the status in words")
    status = c.whole("the status")
    code = c.text("stable, for programs; all codes are listed on the page about the API")
    detail = c.text("for people: what is wrong and what to do")
    instance = c.text("the path that was asked")
    request_id = c.text("under which the server's log knows the request")
    errors = ProblemErrorOut(  # type: ignore[assignment]
        many=True, required=False, help_text="of a body or its address"
    )


class ContractMissingError(Exception):
    """A view does not say what it takes and answers; the text says what to write."""


def operation_of(view: Any, method: str) -> Operation:
    """Return what a view declares for a method.

    Raises:
        ContractMissingError: it declares nothing.
    """
    declared: Mapping[str, Operation] = getattr(view, "contract", {})
    if method.lower() not in declared:
        name = getattr(view, "__name__", type(view).__name__)
        raise ContractMissingError(
            f'{name} has no contract for {method.upper()}. Write contract = {{"{method.lower()}": '
            "Operation(SomethingOut, body=…, role=…)} into the class; the shapes of answers are "
            "in answers.py of its app, Operation is in annotator/api/contract.py."
        )
    return declared[method.lower()]


class ContractSchema(AutoSchema):
    """One operation of the schema, from the contract of its view."""

    @property
    def _ours(self) -> Any:
        """The view, whose class is ours."""
        return self.view

    @property
    def _operation(self) -> Operation:
        return operation_of(self._ours, self.method)

    def is_excluded(self) -> bool:
        """Return whether the view declares nothing; a test says what to write then."""
        return self.method.lower() not in getattr(self._ours, "contract", {})

    def get_operation_id(self) -> str:
        """Return the name generated clients give it: the route, and what is done there."""
        name = _names_by_path()[self.path_regex]
        verb = {"PUT": "replace", "PATCH": "update", "DELETE": "delete", "HEAD": "state"}
        if self.method == "GET":
            return f"{name}_list" if "cursor" in self._ours.parameters else f"{name}_get"
        if self.method == "POST":
            return f"{name}_create" if hasattr(type(self._ours), "get") else name
        return f"{name}_{verb[self.method]}"

    def get_summary(self) -> str:
        """Return what the view is about, and what the method does with it."""
        subject = " ".join((type(self._ours).__doc__ or "").split()).partition(". ")[0]
        does = self._docs()[0]
        return f"{subject.rstrip('.')}: {does[:1].lower()}{does[1:]}"

    def get_description(self) -> str:  # type: ignore[override]
        """Return the rest of it, and what a token and a person need."""
        return " ".join(filter(None, [self._docs()[1], self._who()]))

    def _docs(self) -> tuple[str, str]:
        doc = getattr(self._ours, self.method.lower()).__doc__ or ""
        summary, _, rest = doc.replace("``", "`").strip().partition("\n\n")
        rest = rest.partition("Raises:")[0].partition("Args:")[0]
        return " ".join(summary.split()), " ".join(rest.split())

    def _who(self) -> str:
        if self._operation.is_open:
            return "Open to everybody."
        role = f"the role {role_name(self._operation.role)} and " if self._operation.role else ""
        return f"Needs {role}a token with the scope {self._scope()}."

    def _scope(self) -> str:
        scope = self._ours.write_scope if self.method in WRITES else self._ours.read_scope
        return Scope(scope).label.lower()

    def get_tags(self) -> list[str]:
        """Return the group the route is listed in."""
        words = [word for word in re.split(r"[/<>:]", self.path_regex) if word in _TAG_OF]
        if words[0] == "projects" and len(words) > 1:
            words = [f"projects/{words[1]}" if f"projects/{words[1]}" in _TAG_OF else words[1]]
        return [_TAG_OF[words[0]]]

    def get_auth(self) -> list[dict[str, list[str]]]:
        """Return the scope a token needs; a person in the browser has none."""
        return [] if self._operation.is_open else [{"token": [self._scope()]}, {"session": []}]

    def get_extensions(self) -> dict[str, Any]:
        """Return the least role, for the page about the API."""
        role = self._operation.role
        return {"x-role": role_name(role)} if role else {}

    def _get_parameters(self) -> list[dict[str, Any]]:
        return [*self._in_path(), *self._in_query(), *self._in_headers()]

    def _in_path(self) -> list[dict[str, Any]]:
        return [
            _parameter(name, "path", PATH_TYPES[kind], _path_meaning(name), required=True)
            for kind, name in re.findall(r"<(\w+):(\w+)>", self.path_regex)
        ]

    def _in_query(self) -> list[dict[str, Any]]:
        if self.method != "GET":
            return []
        query = self._ours.query() if self._ours.query else None
        found = []
        for name in self._ours.parameters:
            if query is not None and name in query.fields and name not in LIST_PARAMETERS:
                schema = self._map_serializer_field(query.fields[name], "request")
                self._insert_field_validators(query.fields[name], schema)
                meaning = str(query.fields[name].help_text or "")
            elif name in LIST_PARAMETERS:
                schema, meaning = LIST_PARAMETERS[name]
            else:
                raise ContractMissingError(
                    f"{type(self._ours).__name__} takes ?{name}= and does not say what it is: name "
                    "the serializer of its parameters as query = … in the class."
                )
            found.append(_parameter(name, "query", schema, meaning))
        return found

    def _in_headers(self) -> list[dict[str, Any]]:
        names = list(self._operation.sends)
        if self._takes_key():
            names.append("Idempotency-Key")
        return [
            _parameter(name.rstrip("!"), "header", *HEADERS[name.rstrip("!")], name.endswith("!"))
            for name in names
        ]

    def _takes_key(self) -> bool:
        return self.method in WRITES and self._ours.answers_once

    def get_request_serializer(self) -> Any:
        """Return the bodies by their media types."""
        body = self._operation.body
        if isinstance(body, Mapping):
            return {name: _content(shape) for name, shape in body.items()}
        if isinstance(body, File):
            return {body.media_type: _content(body)}
        if isinstance(body, Either):
            return {"application/json": self._one_of(body, "request")}
        return {"application/json": body} if body else {}

    def _get_request_body(self, direction: Any = "request") -> Any:
        body = super()._get_request_body(direction)
        if body and self._operation.body:
            # An empty body is no JSON, whatever its fields.
            body["required"] = True
        return body

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for status, shape in self._operation.answers.items():
            found[str(status)] = self._good(status, shape)
        for status, codes in sorted(self._refusals().items()):
            found[str(status)] = self._refused(status, codes)
        return found

    def _good(self, status: int, shape: Any) -> dict[str, Any]:
        said: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(shape, File):
            said["content"] = {shape.media_type: {"schema": _content(shape)}}
        elif isinstance(shape, Either):
            said["content"] = {"application/json": {"schema": self._one_of(shape, "response")}}
        elif shape is not None and self.method != "HEAD":
            ref = self.resolve_serializer(shape, "response").ref
            said["content"] = {"application/json": {"schema": ref}}
        returned = {name: HEADERS[name] for name in self._operation.returns}
        if returned:
            said["headers"] = {
                name: {"schema": schema, "description": meaning}
                for name, (schema, meaning) in returned.items()
            }
        return said

    def _one_of(self, either: Either, direction: Any) -> dict[str, Any]:
        return {"oneOf": [self.resolve_serializer(s, direction).ref for s in either.shapes]}

    def _refused(self, status: int, codes: list[str]) -> dict[str, Any]:
        problem = self.resolve_serializer(ProblemOut, "response")
        problem.schema.setdefault("additionalProperties", {})
        said = {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}".rstrip(": ") for code in codes),
            "content": {PROBLEM_TYPE: {"schema": problem.ref}},
            "x-codes": codes,
        }
        name = ".".join([str(status), *codes])
        shared = ResolvedComponent(name, "responses", object=name, schema=said)
        self.registry.register_on_missing(shared)
        return {"$ref": f"#/components/responses/{name}"}

    def _refusals(self) -> dict[int, list[str]]:
        """Return the codes of every refusal by their status."""
        by_status: dict[int, list[str]] = {}
        for code in dict.fromkeys([*self._usual_codes(), *self._operation.problems]):
            by_status.setdefault(CODES[code][0], []).append(code)
        return by_status

    def _usual_codes(self) -> list[str]:
        operation, in_project = self._operation, "project_id" in self.path_regex
        found = ["bad-request", "validation-error", "token-in-address", "not-acceptable"]
        if operation.is_open:
            return found
        found += ["not-authenticated", "rate-limited", "database-unavailable"]
        if self.method in WRITES:
            # Forbidden is also a browser that does not send the token against forged requests.
            found += ["parse-error", "forbidden", "scope-missing", "too-large"]
            found += ["unsupported-type", "storage-full"]
        elif self._ours.read_scope > Scope.READ:
            found += ["scope-missing"]
        if operation.role is not None and operation.role > Role.ANNOTATOR:
            found += ["forbidden"]
        if "<" in self.path_regex:
            found += ["not-found"]
        if in_project or ("<" in self.path_regex and operation.role):
            found += ["project-archived"]
        if self._takes_key():
            found += ["idempotency-key-invalid", "idempotency-in-progress"]
            found += ["idempotency-key-reused"]
        if any(name.startswith("If-Match") for name in operation.sends):
            found += ["version-mismatch"]
        return found

    def _get_serializer_field_meta(self, field: Any, direction: Any) -> Any:
        meta = super()._get_serializer_field_meta(field, direction)
        # Empty stands for "left out" where nothing empty is accepted.
        if meta.get("default") == "":
            del meta["default"]
        return meta

    def _map_serializer_field(self, field: Any, direction: Any, bypass: bool = False) -> Any:
        schema = super()._map_serializer_field(field, direction, bypass)
        schema.pop("x-spec-enum-id", None)
        return schema

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, StrictSerializer) or (
            isinstance(serializer, type) and issubclass(serializer, StrictSerializer)
        ):
            schema["additionalProperties"] = False
        return schema

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        """Return the name of a shape in the schema."""
        return type(serializer).__name__.removesuffix("Out")


def role_name(role: Role | None) -> str:
    """Return the name of a role; nothing for none."""
    return "" if role is None else Role(role).label.lower()


def _content(shape: Any) -> Any:
    if not isinstance(shape, File):
        return shape
    if shape.schema is not None:
        return dict(shape.schema)
    if shape.media_type.startswith("text/"):
        return {"type": "string"}
    return {"type": "string", "format": "binary"}


def _parameter(
    name: str, where: str, schema: dict[str, Any], meaning: str, required: bool = False
) -> dict[str, Any]:
    said = {key: value for key, value in schema.items() if key != "description"}
    return {"name": name, "in": where, "description": meaning, "schema": said} | (
        {"required": True} if required else {}
    )


def _path_meaning(name: str) -> str:
    return PATH_MEANINGS.get(name, f"the id of the {name.removesuffix('_id').replace('_', ' ')}")


@cache
def _names_by_path() -> dict[str, str]:
    """Return the name of each route of the API by its pattern."""
    mounted = get_resolver().url_patterns
    (api,) = [
        entry
        for entry in mounted
        if isinstance(entry, URLResolver) and str(entry.pattern) == "api/v1/"
    ]
    entries = [entry for entry in api.url_patterns if isinstance(entry, URLPattern)]
    return {f"api/v1/{entry.pattern}": entry.name or "" for entry in entries}


class _Routes(EndpointEnumerator):
    """The routes of the API, those that only answer HEAD with it."""

    def get_allowed_methods(self, callback: Any) -> list[str]:
        """Return the methods that stand in the schema."""
        methods: list[str] = super().get_allowed_methods(callback)
        # Django gives a view with ``get`` a ``head`` of its own; ours are written.
        return [*methods, "HEAD"] if hasattr(callback.cls, "head") else methods


class _Generator(SchemaGenerator):
    endpoint_inspector_cls = _Routes


@cache
def api_schema() -> dict[str, Any]:
    """Return the schema of this installation's API; made once in each process."""
    generator: Any = _Generator
    generated = generator(urlconf=settings.ROOT_URLCONF).get_schema(public=True)
    tags = [{"name": name, "description": meaning} for name, meaning in TAGS.items()]
    return {**generated, "tags": tags}
