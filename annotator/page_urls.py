"""Addresses of the pages people open in a browser."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from annotator.accounts import pages as account_pages
from annotator.exports import pages as export_pages
from annotator.labeling import pages as labeling_pages
from annotator.webhooks import pages as webhook_pages
from workqueue import pages as queue_pages

_project = "projects/<id:project_id>/"

urlpatterns = [
    path("", labeling_pages.home, name="home"),
    path("login/", account_pages.SignInPage.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("join/<str:secret>/", account_pages.join, name="invitation"),
    path("account/", account_pages.account, name="account"),
    path("account/password/", account_pages.password_change, name="password_change"),
    path("projects/new/", labeling_pages.project_new, name="project_new"),
    path(_project, queue_pages.project, name="project"),
    path(f"{_project}label/", queue_pages.label, name="label"),
    path(f"{_project}images/", queue_pages.images, name="images"),
    path(f"{_project}progress/", queue_pages.progress, name="progress"),
    path(f"{_project}queue/", queue_pages.queue_settings, name="queue_settings"),
    path(f"{_project}people/", labeling_pages.people, name="people"),
    path(f"{_project}exports/", export_pages.exports, name="exports"),
    path(f"{_project}settings/", labeling_pages.project_settings, name="project_settings"),
    path(f"{_project}settings/webhooks/", webhook_pages.webhooks, name="webhooks"),
    path("system/", queue_pages.system, name="system"),
]
