"""The page of a project's webhooks."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from annotator.accounts import access
from annotator.accounts.models import Role
from annotator.labeling.pages import project_context
from annotator.webhooks import kinds, selectors


@login_required
def webhooks(request: HttpRequest, project_id: int) -> HttpResponse:
    """Show a project's webhooks with their newest deliveries; leads change them."""
    project = access.page_project(request, project_id, Role.LEAD)
    context = project_context(
        project, "settings", cards=selectors.webhook_cards(project), groups=kinds.GROUPS
    )
    return render(request, "webhooks/webhooks.html", context)
