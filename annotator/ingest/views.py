"""The API of uploads: parse, reach the project, call, answer."""

import base64
import binascii
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.contract import File, Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.parsers import StrictJSONParser
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer
from annotator.api.views import APIView
from annotator.ingest import answers, fetching, services
from annotator.ingest.models import Import, ImportEntry, Upload
from annotator.labeling.presenters import present_image
from annotator.labeling.serializers import ExternalIdField
from annotator.labeling.views import body_of

TUS_VERSION = "1.0.0"
REFUSED_SHOWN = 200
LONGEST_URL = 8000


class KnownIn(StrictSerializer):
    """The hashes a sender asks about."""

    sha256 = serializers.ListField(
        child=serializers.RegexField(r"^[0-9a-f]{64}\Z"),
        max_length=1000,
        help_text="sha-256 sums of the files, in lower case hexadecimal",
    )


@extend_schema_field({"type": "string", "format": "binary"})
class Picture(serializers.FileField):
    """The bytes of a picture."""


class FilesIn(StrictSerializer):
    """Pictures, a few at a time."""

    file = serializers.ListField(
        child=Picture(),
        min_length=1,
        max_length=100,
        help_text="the files; each gets an answer of its own",
    )
    external_id = serializers.ListField(
        child=ExternalIdField(allow_blank=True),
        required=False,
        help_text="what you call each file, in their order; empty for none",
    )


class UrlIn(StrictSerializer):
    """An address, and what the sender calls its picture."""

    # What an address may be is said per address by `annotator.outbound`: one never stops the rest.
    url = serializers.CharField(max_length=LONGEST_URL)
    external_id = ExternalIdField(required=False, default="", allow_blank=True)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "maxLength": LONGEST_URL},
            {
                "type": "object",
                "properties": {
                    "url": {"type": "string", "maxLength": LONGEST_URL},
                    "external_id": {"type": "string"},
                },
                "required": ["url"],
                "additionalProperties": False,
            },
        ]
    }
)
class UrlField(serializers.Field[Any, Any, Any, Any]):
    """An address alone, or with its external id."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the address and the external id."""
        return UrlIn().run_validation(data if isinstance(data, dict) else {"url": data})


class UrlsIn(StrictSerializer):
    """The addresses of pictures to fetch."""

    urls = serializers.ListField(
        child=UrlField(),
        min_length=1,
        max_length=1000,
        help_text="web addresses of pictures, or `{url, external_id}`",
    )


class ImagesUploadView(APIView):
    """Adding pictures, a few per request."""

    contract = {
        "post": Operation(
            answers.UploadResultsOut,
            also={202: answers.ImportOut},
            body={"multipart/form-data": FilesIn, "application/json": UrlsIn},
            role=Role.LEAD,
        ),
    }

    def get_parsers(self) -> list[BaseParser]:
        """Take multipart bodies with files, and JSON with addresses."""
        return [MultiPartParser(), StrictJSONParser()]

    def takes_key(self, request: Request) -> bool:
        """Return whether it is a list of addresses: the same bytes are the same image anyway."""
        return _is_json(request)

    def post(self, request: Request, project_id: int) -> Response:
        """Add the files of the field ``file``, or fetch the addresses of ``urls``.

        Each file gets an answer of its own; addresses get theirs in the import that is answered.
        """
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        if _is_json(request):
            wanted = body_of(request, UrlsIn)["urls"]
            import_run = fetching.start_fetching(
                project=project,
                user=person_of(request),
                urls=[entry["url"] for entry in wanted],
                external_ids=[entry["external_id"] for entry in wanted],
            )
            return Response(_present(import_run), status=202)
        _refuse_other_fields(request)
        files = request.FILES.getlist("file")
        if not files:
            raise Problem(
                400,
                "validation-error",
                "Send one or more pictures in the field “file” of a multipart body.",
                [{"pointer": "/file", "code": "required", "message": "No file came with it."}],
            )
        results = [
            services.add_image(
                project=project,
                file=file.chunks(),
                file_name=file.name or "",
                user=person_of(request),
                external_id=external_id,
            )
            for file, external_id in zip(files, _external_ids(request, len(files)), strict=True)
        ]
        services.note_upload(project=project, user=person_of(request), results=results)
        return Response(_report(results))


def _refuse_other_fields(request: Request) -> None:
    known = FilesIn().fields
    sent = [*request.POST, *request.FILES]
    unknown = {
        name: serializers.ErrorDetail("This field is not known.", "unknown-field")
        for name in sent
        if name not in known
    }
    if unknown:
        raise serializers.ValidationError(unknown)


def _external_ids(request: Request, n_files: int) -> list[str]:
    """Return what the sender calls each file: one field ``external_id`` for each, in their order.

    Raises:
        ValidationError: there are more or fewer of them than files, or one is none.
    """
    sent = request.POST.getlist("external_id")
    if not sent:
        return [""] * n_files
    if len(sent) != n_files:
        raise serializers.ValidationError(
            {
                "external_id": f"Send one for each file, in their order, empty for none: these are "
                f"{len(sent)} for {n_files} files."
            }
        )
    each = serializers.ListField(child=ExternalIdField(allow_blank=True))
    try:
        return list(each.run_validation(list(sent)))
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"external_id": error.detail}) from error


def _is_json(request: Request) -> bool:
    return (request.content_type or "").partition(";")[0].strip() == StrictJSONParser.media_type


def _report(results: Sequence[services.ImageResult]) -> dict[str, Any]:
    """Return what became of the files of a request; ``index`` is the place of each among them."""
    report: dict[str, list[dict[str, Any]]] = {"created": [], "duplicates": [], "rejected": []}
    for index, result in enumerate(results):
        if result.image is None:
            why = {"name": result.file_name, "code": result.code, "detail": result.reason}
            report["rejected"].append({"index": index, **why})
            continue
        shown = {"index": index, **present_image(result.image, None)}
        if result.result == "added":
            report["created"].append(shown)
        else:
            report["duplicates"].append(shown | {"detail": result.reason})
    return report


class KnownView(APIView):
    """Which pictures are here already."""

    contract = {"post": Operation(answers.KnownOut, body=KnownIn, role=Role.LEAD)}

    def post(self, request: Request, project_id: int) -> Response:
        """Return those of the sha-256 sums the project has, so that they need not be sent."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        hashes = body_of(request, KnownIn)["sha256"]
        return Response({"known": services.known_hashes(project, hashes)})


class RawParser(BaseParser):
    """Leaves the body of a piece unread, so that it can be streamed to disk."""

    media_type = "application/offset+octet-stream"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return the stream itself."""
        return stream


def _tus(status: int, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        status=status,
        headers={"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store", **named},
    )


class UploadsView(APIView):
    """Beginning an upload in pieces (tus 1.0, https://tus.io/protocols/resumable-upload)."""

    answers_once = False  # one begun twice is swept away
    contract = {
        "post": Operation(
            None,
            status=201,
            role=Role.LEAD,
            sends=("Upload-Length!", "Upload-Metadata"),
            returns=("Location", "Upload-Offset", "Tus-Resumable"),
            problems=("empty-file",),
        ),
    }

    def options(self, request: Any, *_: Any, **__: Any) -> Response:
        """Say what is supported."""
        return _tus(
            204,
            Tus_Version=TUS_VERSION,
            Tus_Extension="creation,termination",
            Tus_Max_Size=str(settings.MAX_ZIP_BYTES),
        )

    def post(self, request: Request, project_id: int) -> Response:
        """Begin one; the answer's Location is where the pieces go."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        length = _header_number(request, "Upload-Length")
        if length > settings.MAX_ZIP_BYTES:
            limit = settings.MAX_ZIP_BYTES // 1024**3
            raise Problem(413, "too-large", f"A zip may have at most {limit} GB. Split it.")
        if length == 0:
            raise Problem(422, "empty-file", "The file is empty.")
        upload = services.start_upload(
            project=project,
            user=person_of(request),
            file_name=_metadata(request).get("filename", "upload.zip"),
            length=length,
        )
        location = reverse("api:upload", args=[project_id, upload.key])
        return _tus(201, Location=request.build_absolute_uri(location), Upload_Offset="0")


class UploadView(APIView):
    """One upload in pieces."""

    answers_once = False  # the offset tells a repeated piece
    without_body = ()
    parser_classes = [RawParser]
    contract = {
        "head": Operation(
            None, role=Role.LEAD, returns=("Upload-Offset", "Upload-Length", "Tus-Resumable")
        ),
        "patch": Operation(
            None,
            status=204,
            body=File(RawParser.media_type),
            role=Role.LEAD,
            sends=("Upload-Offset!",),
            returns=("Upload-Offset", "X-Import-Id", "Tus-Resumable"),
            problems=("offset-mismatch",),
        ),
        "delete": Operation(None, status=204, role=Role.LEAD, problems=("upload-finished",)),
    }

    def head(self, request: Request, project_id: int, key: UUID) -> Response:
        """Say how much is here."""
        upload = _upload(request, project_id, key)
        return _tus(
            200,
            Upload_Offset=str(services.bytes_received(upload)),
            Upload_Length=str(upload.length),
        )

    def patch(self, request: Request, project_id: int, key: UUID) -> Response:
        """Append a piece; after the last one the import starts."""
        upload = _upload(request, project_id, key)
        if request.content_type != RawParser.media_type:
            raise Problem(415, "unsupported-type", f"Send pieces as {RawParser.media_type}.")
        try:
            offset = services.append_to_upload(
                upload=upload,
                offset=_header_number(request, "Upload-Offset"),
                source=request.stream,
                length=_header_number(request, "Content-Length"),
            )
        except services.OffsetMismatchError as error:
            raise Problem(
                409, "offset-mismatch", f"{error} Go on from there.", offset=error.offset
            ) from error
        headers = {"Upload_Offset": str(offset)}
        import_run = Import.objects.filter(upload=upload).first()
        if import_run:
            headers["X_Import_Id"] = str(import_run.pk)
        return _tus(204, **headers)

    def delete(self, request: Request, project_id: int, key: UUID) -> Response:
        """Give an unfinished upload up."""
        try:
            services.drop_upload(upload=_upload(request, project_id, key))
        except services.UploadFinishedError as error:
            raise Problem(409, "upload-finished", str(error)) from error
        return _tus(204)


def _upload(request: Request, project_id: int, key: UUID) -> Upload:
    return access.object_for(
        person_of(request), Upload.objects.filter(project=project_id), at_least=Role.LEAD, key=key
    )


def _header_number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(400, "validation-error", f"The header {name} must be a number of bytes.")
    return int(text)


def _metadata(request: Request) -> dict[str, str]:
    """Return the pairs of the Upload-Metadata header."""
    found = {}
    for pair in request.headers.get("Upload-Metadata", "").split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise Problem(
                400, "validation-error", "Upload-Metadata must be names and base64 text."
            ) from None
    return found


class ImportsView(APIView):
    """The zips and lists of addresses of a project."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.ImportOut), role=Role.LEAD)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        imports = Import.objects.filter(project=project_id).select_related("job", "upload")
        # The addresses of a list can be megabytes.
        return page_of(request, imports.defer("urls", "external_ids"), _present)


class ImportView(APIView):
    """One zip, or one list of addresses."""

    contract = {"get": Operation(answers.ImportDetailOut, role=Role.LEAD)}

    def get(self, request: Request, project_id: int, import_id: int) -> Response:
        """Show how far it is and what was refused."""
        return Response(_present(_import(request, project_id, import_id), with_refused=True))


class ImportEntriesView(APIView):
    """What became of every file of an import, as a table."""

    contract = {"get": Operation(File("text/csv"), role=Role.LEAD)}

    def get(self, request: Request, project_id: int, import_id: int) -> StreamingHttpResponse:
        """Stream one line a file: archive, file, result, reason."""
        import_run = _import(request, project_id, import_id)
        return StreamingHttpResponse(
            _table_of(import_run),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="import-{import_run.pk}.csv"'},
        )


def _table_of(import_run: Import) -> Iterator[str]:
    archive = import_run.file_name
    entries = import_run.entries.values_list("file_name", "result", "reason")
    yield _csv_line("archive", "file", "result", "reason")
    for entry in entries.iterator(chunk_size=2000):
        yield _csv_line(archive, *entry)


def _csv_line(*fields: str) -> str:
    line = io.StringIO()
    # Spreadsheets would run a name that starts like a formula.
    csv.writer(line).writerow([f"'{text}" if text[:1] in set("=+-@") else text for text in fields])
    return line.getvalue()


class ImportCancelView(APIView):
    """Stopping an import."""

    without_body = ("post",)
    contract = {"post": Operation(answers.ImportOut, role=Role.LEAD)}

    def post(self, request: Request, project_id: int, import_id: int) -> Response:
        """Stop it; what was added stays."""
        import_run = _import(request, project_id, import_id)
        services.cancel_import(import_run=import_run, now=timezone.now())
        import_run.refresh_from_db()
        return Response(_present(import_run))


def _import(request: Request, project_id: int, import_id: int) -> Import:
    imports = Import.objects.filter(project=project_id).select_related("job", "upload")
    return access.object_for(person_of(request), imports, at_least=Role.LEAD, pk=import_id)


def _present(import_run: Import, *, with_refused: bool = False) -> dict[str, Any]:
    job = import_run.job
    shown = {
        "id": import_run.pk,
        "file_name": import_run.file_name,
        "state": job.state if job else "done",
        "n_entries": import_run.n_entries,
        "n_added": import_run.n_added,
        "n_duplicates": import_run.n_duplicates,
        "n_refused": import_run.n_refused,
        "progress": {
            "done": job.progress_done if job else 0,
            "total": job.progress_total if job else 0,
        },
        "error": job.error if job else "",
        "created_at": import_run.created_at.isoformat(),
    }
    if with_refused:
        refused = import_run.entries.filter(result=ImportEntry.Result.REFUSED)
        shown["refused"] = list(refused.values("file_name", "code", "reason")[:REFUSED_SHOWN])
    return shown
