"""Cursor pages: the same speed at any depth."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from annotator.api.converters import LARGEST_ID

Row = TypeVar("Row", bound=Model)

LARGEST_PAGE = 200
# What a list takes in its address, beside its own filters.
PAGED = ("cursor", "limit")


class NumberCursor(CursorPagination):
    """Pages of rows in the order of a whole number."""

    def decode_cursor(self, request: Request) -> Any:
        """Return the cursor of the request, or None on the first page.

        Raises:
            NotFound: it is none of ours.
        """
        cursor = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        # The type stubs call it a number; it is text of the address.
        position = str(cursor.position)
        if not position.isascii() or not position.isdigit() or len(position) > 19:
            raise NotFound(self.invalid_cursor_message)
        if int(position) > LARGEST_ID:
            raise NotFound(self.invalid_cursor_message)
        return cursor


class NewestFirst(NumberCursor):
    """Pages of a list of the API by descending id.

    A cursor is signed for its address and its user: nobody can make one up or use another's.
    """

    ordering: Any = "-id"
    page_size = 50
    request: Request
    page_size_query_param = "limit"
    max_page_size = LARGEST_PAGE

    def get_page_size(self, request: Request) -> int:
        """Return how many rows a page has.

        Raises:
            ValidationError: ``limit`` is no number from 1 to 200.
        """
        return limit_of(request, self.page_size or LARGEST_PAGE)

    def encode_cursor(self, cursor: Any) -> str:
        """Return the address of the page the cursor stands for."""
        place = [cursor.offset, cursor.reverse, cursor.position]
        text = signing.dumps(place, salt=self._salt())
        return replace_query_param(str(self.base_url), self.cursor_query_param, text)

    def decode_cursor(self, request: Request) -> Any:
        """Return the cursor of the request, or None on the first page.

        Raises:
            ValidationError: it was not given out for this list.
        """
        text = request.query_params.get(self.cursor_query_param)
        if text is None:
            return None
        try:
            offset, reverse, position = signing.loads(str(text), salt=self._salt())
        except signing.BadSignature as error:
            raise ValidationError(
                {"cursor": "This cursor is not of this list. Start again without one."}
            ) from error
        return Cursor(offset=offset, reverse=reverse, position=position)

    def _salt(self) -> str:
        return f"cursor:{self.request.path}:{self.request.user.pk}"


class OldestFirst(NewestFirst):
    """Pages of a list by ascending id."""

    ordering = "id"


class ByPosition(NewestFirst):
    """Pages of a ranking by ascending position."""

    ordering = "position"


class ByNumber(NewestFirst):
    """Pages of what a project numbers, newest first."""

    ordering = "-number"


class InTheirOrder(NewestFirst):
    """Pages of what people have put in an order."""

    ordering = ("position", "id")


def limit_of(request: Request, default: int) -> int:
    """Return the ``limit`` of the request.

    Raises:
        ValidationError: it is no number from 1 to 200.
    """
    text = request.query_params.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"[1-9][0-9]{0,2}", str(text)) or int(str(text)) > LARGEST_PAGE:
        raise ValidationError({"limit": f"A number from 1 to {LARGEST_PAGE}."})
    return int(str(text))


def page_of(
    request: Request,
    rows: QuerySet[Row],
    present: Callable[[Row], Any],
    paging: NewestFirst | None = None,
) -> Response:
    """Answer with one page of a list, each row as ``present`` shows it."""
    paging = paging or NewestFirst()
    page = paging.paginate_queryset(rows, request) or []
    return paging.get_paginated_response([present(row) for row in page])
