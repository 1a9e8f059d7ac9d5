"""API routes of the person's own account."""

from django.urls import path

from annotator.accounts import views

urlpatterns = [
    path("me/", views.MeView.as_view(), name="me"),
    path("tokens/", views.TokensView.as_view(), name="tokens"),
    path("tokens/<id:token_id>/", views.TokenView.as_view(), name="token"),
]
