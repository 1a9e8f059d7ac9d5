from django.apps import AppConfig


class IngestConfig(AppConfig):
    name = "annotator.ingest"
    label = "ingest"
