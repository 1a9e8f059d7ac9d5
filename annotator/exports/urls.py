"""API routes of exports."""

from django.urls import path

from annotator.exports import views

_exports = "projects/<id:project_id>/exports/"
_export = f"{_exports}<id:export_id>/"

urlpatterns = [
    path(_exports, views.ExportsView.as_view(), name="exports"),
    path(_export, views.ExportView.as_view(), name="export"),
    path(f"{_export}cancel/", views.ExportCancelView.as_view(), name="export_cancel"),
    path(f"{_export}download/", views.ExportDownloadView.as_view(), name="export_download"),
]
