"""Addresses of the pages people open in a browser."""

urlpatterns: list = []
