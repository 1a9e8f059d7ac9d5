from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "annotator.events"
    label = "events"
