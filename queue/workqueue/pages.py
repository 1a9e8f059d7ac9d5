"""The pages of a project's queue: labeling, images, progress, settings, and the system page."""

import platform
import shutil
from typing import Any

import django
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

import annotator
from annotator.accounts import access
from annotator.accounts.models import Role
from annotator.api.paging import NumberCursor
from annotator.clock import database_now
from annotator.jobs.models import Job, Pulse
from annotator.labeling.markdown import rendered
from annotator.labeling.models import Image, Project
from annotator.labeling.pages import project_context
from annotator.labeling.presenters import present_class
from annotator.labeling.serializers import ImageFilter
from workqueue import charts, presenters, reports, selectors
from workqueue.agreement import agreement
from workqueue.heuristics import HEADS, HEURISTICS, budget_effect
from workqueue.models import ExternalModel, Round

PREVIEW = 12
JOBS_SHOWN = 50
ROUNDS_LISTED = 30
LEASES_SHOWN = 200
KEPT_SHOWN = 50


class GalleryPages(NumberCursor):
    """Pages of the gallery, newest image first."""

    ordering = "-id"
    page_size = 60


@login_required
def project(request: HttpRequest, project_id: int) -> HttpResponse:
    """Send the person to what they most likely want to do."""
    found = access.page_project(request, project_id)
    if found.n_images == 0 and found.access_role >= Role.LEAD:
        return redirect("images", project_id)
    return redirect("progress" if found.access_role >= Role.LEAD else "label", project_id)


@login_required
def label(request: HttpRequest, project_id: int) -> HttpResponse:
    """The labeling page; everything on it comes through the API."""
    found = access.page_project(request, project_id)
    can_lead = found.access_role >= Role.LEAD
    config = {
        "project_id": found.pk,
        "user_id": request.user.pk,
        "kind": found.kind,
        "classes": [present_class(entry) for entry in found.classes.filter(deleted_at=None)],
        "urls": {
            "api": reverse("api:project", args=[found.pk]),
            "annotations": "/api/v1/annotations/",
        },
        "lease_minutes": selectors.queue_settings(found).lease_minutes,
        "can_lead": can_lead,
    }
    context = {
        "project": found,
        "label_config": config,
        "instructions_html": rendered(found.instructions) if found.instructions else "",
    }
    return render(request, "workqueue/label.html", context)


@login_required
def images(request: HttpRequest, project_id: int) -> HttpResponse:
    """The gallery, with the uploader for leads.

    Raises:
        Http404: no such page of it.
        PermissionDenied: deleted images are for leads.
    """
    found = access.page_project(request, project_id)
    wanted = ImageFilter(data={key: value for key, value in request.GET.items() if value})
    filters: dict[str, Any] = dict(wanted.validated_data) if wanted.is_valid() else {}
    if filters.get("status") == Image.DELETED and found.access_role < Role.LEAD:
        raise PermissionDenied("Only leads see deleted images.")
    shown = selectors.gallery(
        found,
        status=filters.get("status", ""),
        class_id=filters.get("class"),
        text=filters.get("q", ""),
        disagreed=filters.get("agreement") == ImageFilter.DIFFERS,
    )
    paging = GalleryPages()
    try:
        page = paging.paginate_queryset(shown, Request(request)) or []
    except NotFound as error:
        raise Http404("no such page of the gallery") from error
    annotations = selectors.current_annotations(page)
    classes = presenters.classes_of(found)
    tiles = [
        _tile(presenters.present_labelled(image, annotations[image.pk]), classes) for image in page
    ]
    context = project_context(
        found,
        "images",
        tiles=tiles,
        classes=list(classes.values()),
        filters=filters,
        is_filtered=any(filters.get(name) for name in ("status", "class", "q", "agreement")),
        asks_several=found.annotators_per_image > 1,
        next_url=paging.get_next_link(),
        previous_url=paging.get_previous_link(),
        status=presenters.present_status(found, database_now()),
    )
    return render(request, "workqueue/images.html", context)


def _tile(image: dict[str, Any], classes: dict[int, Any]) -> dict[str, Any]:
    said = image["annotation"]
    class_ids = dict.fromkeys(pk for entry in image["annotations"] for pk in entry["class_ids"])
    why = presenters.present_why(said["served"], classes)["sentence"] if said else ""
    return {
        **image,
        "classes": [classes[pk] for pk in class_ids if pk in classes],
        "said_by": " · ".join(_said_by(entry, classes) for entry in image["annotations"]),
        "why": why,
    }


def _said_by(annotation: dict[str, Any], classes: dict[int, Any]) -> str:
    names = [classes[pk].name for pk in annotation["class_ids"] if pk in classes]
    if not names:
        return f"No class fits, says {annotation['author']}"
    return f"{', '.join(names)}, by {annotation['author']}"


@login_required
def progress(request: HttpRequest, project_id: int) -> HttpResponse:
    """What the labels have brought so far, honestly."""
    found = access.page_project(request, project_id)
    rounds = reports.done_rounds(found)
    curve = reports.learning_curve(rounds)
    listed = Round.objects.filter(project=found).select_related("model_version", "ranking")
    days = reports.labels_over_time(found)
    in_use = selectors.queue_state(found).model_version_id
    context = project_context(
        found,
        "progress",
        status=presenters.present_status(found, database_now()),
        curve=curve,
        curve_charts=charts.accuracy_charts(curve),
        measured_on=reports.measured_on(found, rounds),
        days=days,
        days_charts=charts.total_charts(days),
        per_class=reports.per_class(found),
        per_person=reports.per_person(found),
        agreement=_agreement(found) if found.access_role >= Role.LEAD else None,
        rounds=[presenters.round_row(entry, in_use) for entry in listed[:ROUNDS_LISTED]],
        kept=_kept(found),
    )
    return render(request, "workqueue/progress.html", context)


def _kept(project: Any) -> list[dict[str, Any]]:
    """Return labels that do not count, for those who may see other people's."""
    if project.access_role < Role.REVIEWER:
        return []
    kept = selectors.labels_kept_unused(project)
    return [presenters.present_kept(entry) for entry in kept[:KEPT_SHOWN]]


def _agreement(project: Project) -> dict[str, Any] | None:
    """Return how far people agree, where several are asked."""
    if project.annotators_per_image == 1:
        return None
    return presenters.present_agreement(agreement(project))


@login_required
def queue_settings(request: HttpRequest, project_id: int) -> HttpResponse:
    """How the queue is ordered, and what comes next in it."""
    found = access.page_project(request, project_id)
    settings_row = selectors.queue_settings(found)
    classes = presenters.classes_of(found)
    can_review = found.access_role >= Role.REVIEWER
    upcoming = selectors.ranked_images(found)[:PREVIEW] if can_review else []
    now = database_now()
    can_lead = found.access_role >= Role.LEAD
    held = selectors.live_leases(found, now)[:LEASES_SHOWN] if can_lead else []
    context = project_context(
        found,
        "queue",
        settings=presenters.present_settings(settings_row),
        exploration_percent=round(settings_row.exploration_share * 100),
        upcoming=[presenters.present_position(entry, classes) for entry in upcoming],
        status=presenters.present_status(found, now),
        holders=presenters.holders(held),
        history=reports.settings_history(found) if can_review else [],
        heuristic_groups=_grouped(settings_row.heuristic),
        heads=HEADS,
        external_models=ExternalModel.objects.filter(project=found),
        budget_effect=_budget_effect(found),
        next_ranking=reports.next_ranking_uses(
            found, settings_row, selectors.queue_state(found).ranking
        ),
        stop_at_percent=round(settings_row.stop_at_accuracy * 100)
        if settings_row.stop_at_accuracy
        else "",
        replay=_newest_replay(found) if can_review else None,
    )
    return render(request, "workqueue/queue_settings.html", context)


def _grouped(chosen: str) -> list[dict[str, Any]]:
    """Return the heuristics by group; only groups away from the usual choice start closed."""
    groups: dict[str, list[dict[str, str]]] = {}
    for entry in HEURISTICS:
        groups.setdefault(entry["group"], []).append(entry)
    return [
        {
            "title": title,
            "entries": entries,
            "is_open": index == 0 or any(entry["value"] == chosen for entry in entries),
        }
        for index, (title, entries) in enumerate(groups.items())
    ]


def _budget_effect(project: Project) -> str:
    ranking = selectors.queue_state(project).ranking
    return budget_effect(ranking.n_candidates, ranking.n_pool) if ranking else ""


def _newest_replay(project: Project) -> dict[str, Any] | None:
    newest = selectors.replays(project).first()
    return presenters.present_replay(newest) if newest else None


@login_required
def system(request: HttpRequest) -> HttpResponse:
    """The state of the installation, for its admin.

    Raises:
        PermissionDenied: the person is no site admin.
    """
    if not access.is_site_admin(request.user):  # type: ignore[arg-type]
        raise PermissionDenied("This page is for the admin of the installation.")
    disk = shutil.disk_usage(settings.DATA_DIR)
    seen = {pulse.queue: pulse.at for pulse in Pulse.objects.all()}
    now = database_now()
    context = {
        "versions": {
            "Annotator": annotator.__version__,
            "Django": django.get_version(),
            "Python": platform.python_version(),
        },
        "database": connection.vendor,
        "broker": "embedded" if settings.EMBEDDED_BROKER else "Redis",
        "disk_free": disk.free,
        "disk_percent": round(100 * disk.free / disk.total),
        "queues": [
            {
                "name": queue,
                "at": seen.get(queue),
                "alive": queue in seen and (now - seen[queue]).total_seconds() < 60,
            }
            for queue in settings.QUEUES
        ],
        "jobs": Job.objects.select_related("project")[:JOBS_SHOWN],
    }
    return render(request, "workqueue/system.html", context)
