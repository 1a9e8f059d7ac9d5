"""API routes of webhooks."""

from django.urls import path

from annotator.webhooks import views

_webhook = "webhooks/<id:webhook_id>/"

urlpatterns = [
    path("projects/<id:project_id>/webhooks/", views.WebhooksView.as_view(), name="webhooks"),
    path(_webhook, views.WebhookView.as_view(), name="webhook"),
    path(f"{_webhook}rotate/", views.WebhookRotateView.as_view(), name="webhook_rotate"),
    path(f"{_webhook}test/", views.WebhookTestView.as_view(), name="webhook_test"),
    path(f"{_webhook}deliveries/", views.DeliveriesView.as_view(), name="deliveries"),
    path("deliveries/<id:delivery_id>/redeliver/", views.RedeliverView.as_view(), name="redeliver"),
]
