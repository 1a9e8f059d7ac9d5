"""The API of labels: giving them, taking them back, changing them, and their history."""

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role, Scope
from annotator.api.conditions import require_if_match, version_of
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, NewestFirst, OldestFirst, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView
from annotator.clock import database_now
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Project
from annotator.labeling.presenters import present_annotation
from annotator.labeling.views import body_of
from workqueue import answers, presenters, selectors, serializers, services

OUTCOME_MESSAGES = {
    Annotation.Outcome.LATE: "Your time for this image had run out; the label was kept anyway.",
    Annotation.Outcome.AFTER_REMOVAL: "You were removed from this project meanwhile. Your label is "
    "kept for its leads, but it does not count.",
    Annotation.Outcome.SECOND: "Somebody else labelled this image meanwhile; both labels are kept.",
}


class SubmitView(APIView):
    """Giving a label."""

    answers_once = False  # its own keys are kept for ever, with the label
    write_scope = Scope.ANNOTATE
    contract = {
        "post": Operation(
            answers.SubmittedOut,
            status=201,
            also={200: answers.SubmittedOut},
            body=serializers.SubmitIn,
            role=Role.ANNOTATOR,
            sends=("Idempotency-Key",),
            problems=(
                "idempotency-key-missing",
                "idempotency-key-invalid",
                "idempotency-key-reused",
                "lease-unknown",
                "invalid-classes",
            ),
        ),
    }

    def post(self, request: Request, project_id: int) -> Response:
        """Keep the label; the same key again gets the same answer."""
        project = _project_of_label(request, project_id)
        body = body_of(request, serializers.SubmitIn)
        try:
            submitted = services.submit(
                user=person_of(request),
                project=project,
                key=_idempotency_key(request, body),
                lease_token=str(body["lease"]),
                class_ids=body["class_ids"],
                seconds=body["seconds"],
                was_removed=project.access_role is None,
                now=database_now(),
            )
        except services.KeyReusedError as error:
            raise Problem(422, "idempotency-key-reused", str(error)) from error
        except services.LeaseUnknownError as error:
            raise Problem(404, "lease-unknown", str(error)) from error
        except labeling.InvalidClassesError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        answer = submitted.answer
        return Response(
            {
                "annotation": {
                    "id": answer["annotation"],
                    "class_ids": answer["class_ids"],
                    "action": answer["action"],
                    "outcome": answer["outcome"],
                    "created_at": answer["created_at"],
                },
                "image_id": answer["image"],
                "message": _message(project, answer),
                "status": presenters.present_status(project, database_now())
                if project.access_role
                else None,
            },
            status=200 if submitted.replayed else 201,
        )


def _project_of_label(request: Request, project_id: int) -> Any:
    """Return the project of a label in flight.

    It may have been archived since the image was served, or the person removed: what they decided
    is kept all the same.

    Raises:
        NotFound: there is no such project, or the person never had this image there.
        ProjectArchivedError: the same of an archived one.
    """
    person = person_of(request)
    try:
        return access.project_for(person, project_id)
    except (NotFound, access.ProjectArchivedError):
        sent = serializers.SubmitIn(data=request.data)
        if not sent.is_valid():
            raise
        if not selectors.holds_or_held(project_id, person, str(sent.validated_data["lease"])):
            raise
        return access.project_even_if_closed(person, project_id)


def _message(project: Project, answer: dict[str, Any]) -> str:
    if answer["outcome"] == Annotation.Outcome.ORPHANED:
        gone = selectors.what_is_gone(answer["image"], answer["class_ids"])
        return f"{gone} meanwhile; your label is kept and counts when a lead brings it back."
    if answer["outcome"] == Annotation.Outcome.SECOND and project.annotators_per_image > 1:
        return "Enough other people labelled this image meanwhile; your label is kept as well."
    return OUTCOME_MESSAGES.get(answer["outcome"], "")


def _idempotency_key(request: Request, body: dict[str, Any]) -> str:
    key = request.headers.get("Idempotency-Key") or body.get("key") or ""
    if not key:
        raise Problem(
            400,
            "idempotency-key-missing",
            "Send a new random Idempotency-Key with each label, "
            "and the same one when you repeat it.",
        )
    if len(key) > 80 or not key.isascii() or not key.isprintable():
        raise Problem(400, "idempotency-key-invalid", "At most 80 printable ASCII characters.")
    return str(key)


class UndoView(APIView):
    """Taking a label back."""

    write_scope = Scope.ANNOTATE
    contract = {
        "post": Operation(
            answers.UndoneOut,
            body=serializers.UndoIn,
            role=Role.ANNOTATOR,
            problems=("undo-refused",),
        ),
    }

    def post(self, request: Request, project_id: int) -> Response:
        """Withdraw one of the person's last labels and lease its image to them again."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.UndoIn)
        try:
            lease = services.undo(
                user=person_of(request),
                project=project,
                annotation_id=body["annotation"],
                client=body["client"],
                now=database_now(),
            )
        except (services.UndoRefusedError, labeling.StaleAnnotationError) as error:
            raise Problem(409, "undo-refused", str(error)) from error
        lease.project = project
        return Response(
            {
                "lease": presenters.present_lease(lease, presenters.classes_of(project)),
                "status": presenters.present_status(project, database_now()),
            }
        )


class MyAnnotationsView(APIView):
    """The person's labels."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.MyAnnotationOut), role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first; without a limit, those that can be undone."""
        project = access.project_for(person_of(request), project_id)
        paging = NewestFirst()
        paging.page_size = services.UNDO_DEPTH
        mine = selectors.own_annotations(project, person_of(request))
        return page_of(request, mine, presenters.present_mine, paging)


class KeptLabelsView(APIView):
    """Labels that are kept in the history and do not count."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.KeptAnnotationOut), role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first, each with why."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        kept = selectors.labels_kept_unused(project)
        return page_of(request, kept, presenters.present_kept)


class AnnotationView(APIView):
    """One label. An edit is a new label with a new id, so its id is also its version."""

    write_scope = Scope.ANNOTATE
    contract = {
        "get": Operation(
            answers.AnnotationDetailOut,
            role=Role.ANNOTATOR,
            returns=("ETag",),
            problems=("forbidden",),
        ),
        "put": Operation(
            answers.EditedOut,
            body=serializers.EditIn,
            role=Role.ANNOTATOR,
            sends=("If-Match!",),
            returns=("ETag",),
            problems=("forbidden", "condition-required", "invalid-classes"),
        ),
    }

    def get(self, request: Request, annotation_id: int) -> Response:
        """Show it, and which one has replaced it."""
        annotation = _annotation(request, annotation_id)
        newer = Annotation.objects.filter(replaces=annotation).first()
        shown = present_annotation(annotation)
        return Response(
            {
                **shown,
                "is_current": annotation.is_current,
                "replaced_by": newer.pk if newer else None,
            },
            headers={"ETag": f'"{annotation.pk}"'},
        )

    def put(self, request: Request, annotation_id: int) -> Response:
        """Replace it by one with other classes; the former stays in the history."""
        annotation = _annotation(request, annotation_id)
        require_if_match(request, "the label")
        body = body_of(request, serializers.EditIn)
        version = version_of(request)
        if version is not None and version != annotation.pk:
            raise _changed_meanwhile(labeling.current_of(annotation), annotation)
        try:
            edited = services.edit(
                annotation=annotation, actor=person_of(request), class_ids=body["class_ids"]
            )
        except labeling.InvalidClassesError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        except labeling.StaleAnnotationError as error:
            raise _changed_meanwhile(error.current, annotation) from error
        return Response(
            {"annotation": present_annotation(edited)}, headers={"ETag": f'"{edited.pk}"'}
        )


def _annotation(request: Request, annotation_id: int) -> Annotation:
    """Return a label of the person, or of anybody for a reviewer."""
    annotation = access.object_for(
        person_of(request),
        Annotation.objects.select_related("author"),
        project_path="image__project",
        pk=annotation_id,
    )
    if annotation.author_id != person_of(request).pk:
        access.project_for(person_of(request), annotation.image.project_id, Role.REVIEWER)
    return annotation


def _changed_meanwhile(current: Annotation | None, asked: Annotation) -> Problem:
    said = "changed" if current else "withdrawn"
    by = selectors.changed_by(asked).get(current.pk) if current else None
    return Problem(
        412,
        "version-mismatch",
        f"This label was {said} meanwhile.",
        current=present_annotation(current) if current else None,
        version=str(current.pk) if current else None,
        by=by,
    )


class AnnotationHistoryView(APIView):
    """What became of one label."""

    parameters = PAGED
    contract = {
        "get": Operation(
            page_of_many(answers.AnnotationChangeOut), role=Role.ANNOTATOR, problems=("forbidden",)
        ),
    }

    def get(self, request: Request, annotation_id: int) -> Response:
        """List all its author said of the image, oldest first, with who changed what."""
        annotation = _annotation(request, annotation_id)
        by = selectors.changed_by(annotation)
        return page_of(
            request,
            selectors.history_of(annotation),
            lambda row: presenters.present_change(row, by),
            OldestFirst(),
        )
