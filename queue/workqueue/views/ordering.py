"""The API of the order: its settings, and the current ranking."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.conditions import version_of
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, ByNumber, ByPosition, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView
from annotator.events.models import Event
from annotator.labeling.models import Project
from annotator.labeling.views import query_of
from workqueue import answers, presenters, reports, selectors, serializers, services
from workqueue.models import QueueSettings, Ranking


class SettingsView(APIView):
    """The queue settings."""

    in_steps = ("patch",)
    contract = {
        "get": Operation(answers.SettingsOut, role=Role.ANNOTATOR, returns=("ETag",)),
        "patch": Operation(
            answers.SettingsOut,
            body=serializers.SettingsPatch,
            role=Role.LEAD,
            sends=("If-Match",),
            returns=("ETag",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """Show them with the choices there are."""
        project = access.project_for(person_of(request), project_id)
        return _settings_answer(selectors.queue_settings(project))

    def patch(self, request: Request, project_id: int) -> Response:
        """Change them; used from the next ranking on."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        stored = selectors.queue_settings(project)
        parsed = serializers.SettingsPatch(data=request.data, context={"stored": stored})
        parsed.is_valid(raise_exception=True)
        try:
            changed = services.change_settings(
                project=project,
                actor=person_of(request),
                changes=dict(parsed.validated_data),
                version=version_of(request),
            )
        except services.SettingsChangedError as error:
            raise Problem(
                412,
                "version-mismatch",
                f"{error} Nothing was saved; look at what is there now, then save again.",
                current=presenters.present_settings(error.current),
                version=str(error.current.version),
            ) from error
        return _settings_answer(changed)


def _settings_answer(settings: QueueSettings) -> Response:
    return Response(
        presenters.present_settings(settings), headers={"ETag": f'"{settings.version}"'}
    )


class SettingsHistoryView(APIView):
    """Who changed the queue settings when."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.SettingsChangeOut), role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """List the changes, newest first."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        return page_of(request, reports.settings_changes(project), _settings_change)


def _settings_change(event: Event) -> dict[str, Any]:
    change = reports.settings_change(event)
    return {**change, "at": presenters.iso(change["at"])}


class RankingsView(APIView):
    """The rankings of a project."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.PastRankingOut), role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        return page_of(request, selectors.rankings(project), presenters.present_ranking, ByNumber())


class RankingView(APIView):
    """The current ranking, or a past one."""

    parameters = ("number", *PAGED)
    query = serializers.RankingQuery
    contract = {"get": Operation(page_of_many(answers.PositionOut), role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """List its positions whose images are still open; with ``number``, all that one has."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        classes = presenters.classes_of(project)
        number = query_of(request, serializers.RankingQuery).get("number")
        positions = selectors.ranked_images(project)
        if number is not None:
            positions = selectors.positions_of(_kept_ranking(project, number))
        return page_of(
            request,
            positions,
            lambda ranked: presenters.present_position(ranked, classes),
            ByPosition(),
        )


def _kept_ranking(project: Project, number: int) -> Ranking:
    found = selectors.rankings(project).filter(number=number)
    ranking: Ranking | None = found.first()
    if ranking is None:
        raise Problem(404, "not-found", f"This project has no ranking {number}.")
    if not found.filter(is_kept=True).exists():
        raise Problem(404, "not-found", f"The positions of ranking {number} are no longer kept.")
    return ranking
