"""API routes of uploads (adding single pictures is mounted with their list, in annotator.urls)."""

from django.urls import path

from annotator.ingest import views

_project = "projects/<id:project_id>/"

urlpatterns = [
    path(f"{_project}images/known/", views.KnownView.as_view(), name="known"),
    path(f"{_project}uploads/", views.UploadsView.as_view(), name="uploads"),
    path(f"{_project}uploads/<uuid:key>/", views.UploadView.as_view(), name="upload"),
    path(f"{_project}imports/", views.ImportsView.as_view(), name="imports"),
    path(f"{_project}imports/<id:import_id>/", views.ImportView.as_view(), name="import"),
    path(
        f"{_project}imports/<id:import_id>/entries.csv",
        views.ImportEntriesView.as_view(),
        name="import_entries",
    ),
    path(
        f"{_project}imports/<id:import_id>/cancel/",
        views.ImportCancelView.as_view(),
        name="import_cancel",
    ),
]
