from django.apps import AppConfig


class IngestConfig(AppConfig):
    name = "annotator.ingest"
    label = "ingest"

    def ready(self) -> None:
        from annotator.jobs import registry

        registry.register(
            "import",
            "annotator.ingest.services:run_import",
            on_failure="annotator.ingest.services:import_failed",
        )
        registry.register("fetch", "annotator.ingest.fetching:run_fetch")
