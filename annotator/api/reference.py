"""The schema as a route, and the page about the API that is made of it.

The page is rendered by the server in the look of the others: no script, nothing from elsewhere.
"""

import json
import re
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.api.contract import File, Operation
from annotator.api.problem_codes import CODES
from annotator.api.schema import TAGS, api_schema
from annotator.api.views import APIView

METHODS = ("get", "head", "post", "put", "patch", "delete")
# What stands in the examples where a field says nothing of itself.
EXAMPLES: dict[str, Any] = {
    "name": "Pets", "ClassIn.name": "cat", "ClassPatch.name": "Cat",
    "TokenIn.name": "nightly export", "ServiceTokenIn.name": "nightly export",
    "url": "https://hooks.example.org/annotator", "class_ids": [1, 2],
    "lease": "11111111-2222-4333-8444-555555555555", "annotation": 41, "user": 7, "image": 12,
    "model": "resnet-v3", "sha256": ["0" * 64], "probabilities": [0.4, 0.6], "role": "reviewer",
    "n": 5, "heuristic": "entropy", "is_active": False,
}  # fmt: skip
# Of fields that may all be left out, the ones an example shows.
TELLING = ("name", "heuristic", "is_active", "n", "role", "reason", "lease", "n_seeds")
HEADER_EXAMPLES = {
    "Idempotency-Key": "$(uuidgen)", "If-Match": '\\"VERSION\\"', "Upload-Length": "1048576",
    "Upload-Offset": "0",
}  # fmt: skip
UUID = "11111111-2222-4333-8444-555555555555"


class SchemaView(APIView):
    """The description of the API for programs."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    contract = {"get": Operation(File("application/json", {"type": "object"}), is_open=True)}

    def get(self, request: Request) -> Response:
        """Return the OpenAPI 3.1 schema, from which clients can be generated."""
        return Response(api_schema())


def reference(request: HttpRequest) -> HttpResponse:
    """Show what every route takes and answers, for people."""
    context = {
        "groups": groups(),
        "types": types(),
        "codes": [
            {"code": code, "status": status, "meaning": marked(meaning)}
            for code, (status, meaning) in CODES.items()
        ],
        "root": request.build_absolute_uri("/api/v1"),
    }
    return render(request, "api/reference.html", context)


@cache
def groups() -> list[dict[str, Any]]:
    """Return the routes by what they are about, each with its methods."""
    found: dict[str, list[dict[str, Any]]] = {tag: [] for tag in TAGS}
    for path, methods in sorted(api_schema()["paths"].items()):
        for method in METHODS:
            if method in methods:
                operation = methods[method]
                found[operation["tags"][0]].append(_operation(path, method, operation))
    return [
        {"title": tag, "anchor": _anchor(tag), "meaning": TAGS[tag], "operations": operations}
        for tag, operations in found.items()
        if operations
    ]


@cache
def types() -> list[dict[str, Any]]:
    """Return the objects that are sent and answered, by name."""
    return [
        {"name": name, "meaning": schema.get("description", ""), "rows": _rows(schema)}
        for name, schema in sorted(api_schema()["components"]["schemas"].items())
    ]


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path.removeprefix("/api/v1/"),
        "summary": marked(operation["summary"]),
        "more": marked(operation["description"]),
        "role": operation.get("x-role", ""),
        "parameters": [_parameter(entry) for entry in operation.get("parameters", [])],
        "bodies": _bodies(operation),
        "answers": _answers(operation),
        "refusals": list(_refusals(operation)),
        "curl": curl(path, method, operation),
    }


def _parameter(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "where": {"path": "address", "query": "query", "header": "header"}[entry["in"]],
        "type": type_of(entry["schema"]),
        "is_required": entry.get("required", False),
        "meaning": entry["description"],
    }


def _bodies(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"media_type": name, **_shown(schema)}
        for name, media in operation.get("requestBody", {}).get("content", {}).items()
        for schema in _alternatives(media["schema"])
    ]


def _answers(operation: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for status, said in operation["responses"].items():
        if status >= "400":
            continue
        content = said.get("content", {})
        name, media = next(iter(content.items()), ("", None))
        headers = [
            {"name": title, "meaning": header["description"]}
            for title, header in said.get("headers", {}).items()
        ]
        words = {"status": status, "phrase": said["description"], "media_type": name}
        shapes = [_shown(schema) for schema in _alternatives(media["schema"])] if media else []
        found += [
            {**words, "headers": headers, **shown}
            for shown in shapes or [{"type": None, "rows": []}]
        ]
    return found


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the shapes of which a body or an answer has one."""
    found: list[dict[str, Any]] = schema.get("oneOf", [schema])
    return found


def _shown(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": type_of(schema), "rows": _rows(_resolved(schema))}


def _refusals(operation: dict[str, Any]) -> Any:
    for status, said in operation["responses"].items():
        if status >= "400":
            for code in _response(said)["x-codes"]:
                yield {"status": status, "code": code, "meaning": CODES[code][1]}


def _response(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said
    if "$ref" in said:
        found = api_schema()["components"]["responses"][said["$ref"].rpartition("/")[2]]
    return found


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema
    if "$ref" in schema:
        found = api_schema()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _rows(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": type_of(field),
            "is_required": name in required,
            "meaning": field.get("description", ""),
            "default": json.dumps(field["default"]) if "default" in field else "",
        }
        for name, field in schema.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> dict[str, str]:
    """Return a type in words: what stands before the name of an object, the name, and after it."""
    if "$ref" in schema:
        return _words(name=schema["$ref"].rpartition("/")[2])
    for key in ("allOf", "oneOf", "anyOf"):
        if key in schema:
            parts = [entry for entry in schema[key] if entry.get("type") != "null"]
            inner = type_of(parts[0]) if parts else _words("anything")
            return inner | {"after": inner["after"] + _or_null(len(parts) < len(schema[key]))}
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    null = _or_null("null" in kinds or None in schema.get("enum", []))
    kind = next((entry for entry in kinds if entry != "null"), "")
    if "enum" in schema:
        return _words(
            " | ".join(str(value) for value in schema["enum"] if value is not None) + null
        )
    if kind == "array":
        inner = type_of(schema["items"])
        return inner | {"before": f"list of {inner['before']}", "after": inner["after"] + null}
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        inner = type_of(schema["additionalProperties"])
        return inner | {"before": f"object of {inner['before']}", "after": inner["after"] + null}
    return _words(_plain(kind, schema) + null)


def _words(before: str = "", name: str = "", after: str = "") -> dict[str, str]:
    return {"before": before, "name": name, "after": after}


def _or_null(is_null: bool) -> str:
    return " or null" if is_null else ""


_FORMATS = {
    "date-time": "time, ISO 8601", "date": "date", "uuid": "UUID", "binary": "bytes",
    "double": "number", "int64": "whole number",
}  # fmt: skip
_KINDS = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
    "object": "object", "": "anything",
}  # fmt: skip


def _plain(kind: str, schema: dict[str, Any]) -> str:
    words = _FORMATS.get(schema.get("format", ""), _KINDS[kind])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 10**12:
        words += f", {low} to {high}"
    elif low:
        words += f", from {low}"
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']} characters"
    return words


def marked(text: str) -> SafeString:
    """Return a text as HTML in which what stands between backticks is code."""
    parts = enumerate(text.split("`"))
    pieces = ((format_html("<code>{}</code>" if n % 2 else "{}", part),) for n, part in parts)
    return format_html_join("", "{}", pieces)


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


# --- Examples -----------------------------------------------------------------------------------


def curl(path: str, method: str, operation: dict[str, Any]) -> str:
    """Return the request as a line for a shell, with $TOKEN and $URL for what is the reader's."""
    parts = ["curl"]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if method == "head":
        parts.append("--head")
    elif method != "get":
        parts.append(f"-X {method.upper()}")
    parts += [
        f'-H "{entry["name"]}: {HEADER_EXAMPLES[entry["name"]]}"'
        for entry in operation.get("parameters", [])
        if entry["in"] == "header" and entry["name"] in HEADER_EXAMPLES
    ]
    address = f"$URL/{path.removeprefix('/api/v1/')}"
    for entry in operation.get("parameters", []):
        if entry["in"] == "path":
            is_uuid = entry["schema"].get("format") == "uuid"
            address = address.replace(f"{{{entry['name']}}}", UUID if is_uuid else "1")
    parts += [*_body_flags(operation), f'"{address}"']
    return " \\\n  ".join(_joined(parts))


def _joined(parts: list[str]) -> list[str]:
    """Put short parts on one line."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < 76:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines


def _body_flags(operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        return ["-F file=@a.jpg", "-F file=@b.jpg"]
    if "application/json" in content:
        body = example_of(content["application/json"]["schema"])
        return ['-H "Content-Type: application/json"', f"-d '{json.dumps(body)}'"]
    return [f'-H "Content-Type: {name}" --data-binary @piece' for name in content]


def example_of(schema: dict[str, Any]) -> Any:
    """Return a body that is accepted, as small as it can be."""
    kind = schema.get("$ref", "").rpartition("/")[2]
    schema = _resolved(schema)
    if "oneOf" in schema:
        return example_of(schema["oneOf"][0])
    if "properties" in schema:
        fields = schema["properties"]
        required = schema.get("required") or [n for n in TELLING if n in fields][:1]
        wanted = [key for key in fields if key in required]
        return {key: _example_in(kind, key, fields[key]) for key in wanted}
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [example_of(schema["items"])]
    return schema.get("default", schema.get("minimum", "…"))


def _example_in(kind: str, name: str, schema: dict[str, Any]) -> Any:
    known = EXAMPLES.get(f"{kind}.{name}", EXAMPLES.get(name))
    if isinstance(known, list):
        return known[: max(schema.get("minItems", 1), 1)]
    return example_of(schema) if known is None else known
