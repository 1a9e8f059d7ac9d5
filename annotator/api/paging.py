"""Cursor pages: the same speed at any depth."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """Pages of a list by descending id."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class ByPosition(NewestFirst):
    """Pages of a ranking by ascending position."""

    ordering = "position"
