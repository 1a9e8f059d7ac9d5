from django.apps import AppConfig


class LabelingConfig(AppConfig):
    name = "annotator.labeling"
    label = "labeling"

    def ready(self) -> None:
        from annotator.jobs import registry

        registry.register("settle_class", "annotator.labeling.restoring:settle_class")
        registry.register("settle_project", "annotator.labeling.restoring:settle_project")
