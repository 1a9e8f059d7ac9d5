from django.apps import AppConfig


class ExportsConfig(AppConfig):
    name = "annotator.exports"
    label = "exports"

    def ready(self) -> None:
        from annotator.jobs import registry

        registry.register(
            "export",
            "annotator.exports.writing:run_export",
            on_failure="annotator.exports.writing:export_failed",
        )
