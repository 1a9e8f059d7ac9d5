from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "annotator.operations"
    label = "operations"
