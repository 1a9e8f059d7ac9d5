from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "annotator.webhooks"
    label = "webhooks"

    def ready(self) -> None:
        from annotator.events.hooks import on_recorded
        from annotator.webhooks.outbox import write

        on_recorded(write)
