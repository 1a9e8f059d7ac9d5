"""The page of a project's exports."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from annotator.accounts import access
from annotator.accounts.models import Role
from annotator.exports.formats import FORMATS
from annotator.exports.models import Export, kept_for
from annotator.labeling.models import Project
from annotator.labeling.pages import project_context

SHOWN = 50


@login_required
def exports(request: HttpRequest, project_id: int) -> HttpResponse:
    """Let reviewers and leads choose a format, and show the exports there are."""
    project = access.page_project(request, project_id, Role.REVIEWER)
    found = Export.objects.filter(project=project).select_related("job", "created_by")
    context = project_context(
        project,
        "exports",
        formats=[
            entry
            for entry in FORMATS.values()
            if project.kind == Project.Kind.ONE_CLASS or not entry.needs_one_class
        ],
        rows=[{"export": export, "format": FORMATS[export.format]} for export in found[:SHOWN]],
        days=kept_for().days,
        classes=project.classes.filter(deleted_at=None),
    )
    return render(request, "exports/exports.html", context)
