"""The API of exports: parse, reach the object, call, answer. Reviewers and leads only."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role, Scope
from annotator.api.contract import File, Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView
from annotator.clock import database_now
from annotator.exports import answers, serializers, services
from annotator.exports.downloads import download
from annotator.exports.formats import FORMATS
from annotator.exports.models import Export
from annotator.exports.presenters import present_export
from annotator.labeling.views import body_of


class ExportsView(APIView):
    """The exports of a project."""

    parameters = PAGED
    # It changes nothing of the project: a program that only fetches labels need not manage it.
    write_scope = Scope.ANNOTATE
    contract = {
        "get": Operation(page_of_many(answers.ExportOut), role=Role.REVIEWER),
        "post": Operation(
            answers.ExportOut,
            status=202,
            body=serializers.ExportIn,
            role=Role.REVIEWER,
            problems=("format-unfit", "invalid-classes", "too-many-exports"),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        access.project_for(person_of(request), project_id, Role.REVIEWER)
        exports = Export.objects.filter(project=project_id).select_related("job", "created_by")
        return page_of(request, exports, present_export)

    def post(self, request: Request, project_id: int) -> Response:
        """Start one; poll it until its state is ``done``."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        body = body_of(request, serializers.ExportIn)
        address = request.build_absolute_uri("/")
        try:
            export = services.start_export(
                project=project,
                actor=person_of(request),
                format_name=body["format"],
                options=serializers.options_of(body, address=address),
            )
        except services.UnfitFormatError as error:
            raise Problem(422, "format-unfit", str(error)) from error
        except services.UnknownClassesError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        except services.TooManyExportsError as error:
            raise Problem(409, "too-many-exports", str(error)) from error
        return Response(present_export(export), status=202)


class ExportView(APIView):
    """One export."""

    write_scope = Scope.ANNOTATE
    contract = {
        "get": Operation(answers.ExportOut, role=Role.REVIEWER),
        "delete": Operation(None, status=204, role=Role.REVIEWER),
    }

    def get(self, request: Request, project_id: int, export_id: int) -> Response:
        """Show how far it is, or why it failed."""
        return Response(present_export(_export(request, project_id, export_id)))

    def delete(self, request: Request, project_id: int, export_id: int) -> Response:
        """Forget it and its file; one that is being written is stopped."""
        export = _export(request, project_id, export_id)
        services.delete_export(export=export, actor=person_of(request), now=database_now())
        return Response(status=204)


class ExportCancelView(APIView):
    """Stopping an export."""

    write_scope = Scope.ANNOTATE
    without_body = ("post",)
    contract = {"post": Operation(answers.ExportOut, role=Role.REVIEWER)}

    def post(self, request: Request, project_id: int, export_id: int) -> Response:
        """Stop it, if it is not finished."""
        export = _export(request, project_id, export_id)
        services.cancel_export(export=export, actor=person_of(request), now=database_now())
        return Response(present_export(_export(request, project_id, export_id)))


class ExportDownloadView(APIView):
    """The file of an export."""

    contract = {
        "get": Operation(
            File("*/*"),
            also={206: File("*/*")},
            role=Role.REVIEWER,
            sends=("Range", "If-Range"),
            returns=("ETag",),
            problems=("export-not-ready", "range-not-satisfiable"),
        ),
    }

    def get(self, request: Request, project_id: int, export_id: int) -> HttpResponseBase:
        """Stream it, from where a ``Range`` says.

        Raises:
            Problem: 409, it is not written yet; 404, its file is gone; 416, it is shorter.
        """
        export = _export(request, project_id, export_id)
        if not export.is_ready:
            raise Problem(
                409, "export-not-ready", f"This export is {export.state}; there is no file."
            )
        try:
            response = download(
                export.path,
                name=export.file_name,
                mime=FORMATS[export.format].mime,
                version=export.sha256,
                wanted=request.headers.get("Range", ""),
                if_version=request.headers.get("If-Range", ""),
            )
        except FileNotFoundError as error:
            raise Problem(404, "not-found", "The file of this export is gone.") from error
        response["Cache-Control"] = "private, no-store"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response


def _export(request: Request, project_id: int, export_id: int) -> Export:
    exports = Export.objects.filter(project=project_id).select_related("job", "created_by")
    return access.object_for(person_of(request), exports, at_least=Role.REVIEWER, pk=export_id)
