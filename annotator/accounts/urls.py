"""API routes of the person's own account and of tokens."""

from django.urls import path

from annotator.accounts import views

urlpatterns = [
    path("me/", views.MeView.as_view(), name="me"),
    path("tokens/", views.TokensView.as_view(), name="tokens"),
    path("tokens/<id:token_id>/", views.TokenView.as_view(), name="token"),
    path(
        "projects/<id:project_id>/tokens/",
        views.ServiceTokensView.as_view(),
        name="service_tokens",
    ),
    path(
        "projects/<id:project_id>/tokens/<id:token_id>/",
        views.ServiceTokenView.as_view(),
        name="service_token",
    ),
]
