from django.apps import AppConfig
from django.urls import register_converter

from annotator.api.converters import IdConverter


class AnnotatorConfig(AppConfig):
    name = "annotator"

    def ready(self) -> None:
        # Before any address is read: all of them use it.
        register_converter(IdConverter, "id")
