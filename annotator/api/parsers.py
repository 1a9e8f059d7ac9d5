"""A JSON parser that refuses what would poison a row or a process."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from annotator.api.problems import Problem

MAX_DEPTH = 32


class StrictJSONParser(BaseParser):
    """JSON without NaN, lone surrogates, NUL characters, deep nesting or doubled keys.

    PostgreSQL refuses some of these and SQLite stores them for ever: the same answer on both
    databases is a 400 at the door.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the decoded body.

        Raises:
            ParseError: the body is not JSON as this API accepts it.
            Problem: it is too large.
        """
        body = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2
            raise Problem(413, "too-large", f"A body may have at most {limit} MB.")
        try:
            text = body.decode("utf-8")
            _check_depth(text)
            decoded = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body is not valid JSON: {error}") from error
        _check_strings(decoded)
        return decoded


def _check_depth(text: str) -> None:
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        elif character in "]}":
            depth -= 1


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ParseError("Text must not hold NUL characters or unpaired surrogates.")
    elif isinstance(value, dict):
        for key, entry in value.items():
            _check_strings(key)
            _check_strings(entry)
    elif isinstance(value, list):
        for entry in value:
            _check_strings(entry)
    elif isinstance(value, float | int) and _is_out_of_range(value):
        raise ParseError("A number is out of range.")


def _is_out_of_range(value: float) -> bool:
    # 1e400 is read as infinity.
    return not math.isfinite(value) if isinstance(value, float) else abs(value) > 2**63 - 1
