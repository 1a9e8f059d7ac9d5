"""Addresses of the pages people open in a browser."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
