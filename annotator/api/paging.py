"""Cursor pages: the same speed at any depth."""

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from annotator.api.converters import LARGEST_ID


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
    """Pages of a list by descending id."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class ByPosition(NewestFirst):
    """Pages of a ranking by ascending position."""

    ordering = "position"
