"""The API of labels: giving them, taking them back, changing them, and their history."""

from collections.abc import Sequence
from typing import Any

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role, Scope
from annotator.api.conditions import require_if_match, version_of
from annotator.api.contract import Either, Operation, page_of_many
from annotator.api.paging import PAGED, NewestFirst, OldestFirst, page_of
from annotator.api.problems import Problem, outcome_of
from annotator.api.views import APIView
from annotator.clock import database_now
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, Project
from annotator.labeling.presenters import present_annotation
from annotator.labeling.views import body_of, query_of
from workqueue import answers, presenters, selectors, serializers, services

OUTCOME_MESSAGES = {
    Annotation.Outcome.LATE: "Your time for this image had run out; the label was kept anyway.",
    Annotation.Outcome.AFTER_REMOVAL: "You were removed from this project meanwhile. Your label is "
    "kept for its leads, but it does not count.",
    Annotation.Outcome.SECOND: "Somebody else labelled this image meanwhile; both labels are kept.",
}


DIRECT_MESSAGES = {
    Annotation.Outcome.LATE: "Your time for this image had run out, or somebody else has it on the "
    "screen; your label counts all the same.",
    Annotation.Outcome.SECOND: "As many people as wanted have labelled this image; your label is "
    "kept beside theirs.",
}


class SubmitView(APIView):
    """Giving a label."""

    answers_once = False  # its own keys are kept for ever, with the label
    write_scope = Scope.ANNOTATE
    contract = {
        "post": Operation(
            answers.SubmittedOut,
            status=201,
            also={200: Either((answers.SubmittedOut, answers.SubmittedManyOut))},
            body=Either((serializers.SubmitIn, serializers.SubmitManyIn)),
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
        """Keep the label, or each of ``labels``; the same key again gets the same answer."""
        if isinstance(request.data, dict) and "labels" in request.data:
            return _submit_many(request, project_id)
        project = _project_of_labels(request, project_id, [request.data])
        body = body_of(request, serializers.SubmitIn)
        submitted = _submit(request, project, body, _idempotency_key(request, body))
        return Response(
            {**_present_submitted(project, submitted.answer), "status": _status(project)},
            status=200 if submitted.replayed else 201,
        )


def _submit_many(request: Request, project_id: int) -> Response:
    labels = body_of(request, serializers.SubmitManyIn)["labels"]
    project = _project_of_labels(request, project_id, labels)
    return Response(
        {
            "results": [_outcome_of(request, project, label) for label in labels],
            "status": _status(project),
        }
    )


def _outcome_of(request: Request, project: Any, label: Any) -> dict[str, Any]:
    """Return what became of one label of many, each in a transaction of its own."""
    key = label.get("key") if isinstance(label, dict) else None
    parsed = serializers.LabelOfManyIn(data=label)
    try:
        parsed.is_valid(raise_exception=True)
        body = dict(parsed.validated_data)
        submitted = _submit(request, project, body, body["key"])
    except (Problem, ValidationError) as error:
        return {"key": key, **outcome_of(error)}
    answer = _present_submitted(project, submitted.answer)
    return {"key": key, "status": 200 if submitted.replayed else 201, **answer}


def _submit(request: Request, project: Any, body: dict[str, Any], key: str) -> services.Submitted:
    try:
        return services.submit(
            user=person_of(request),
            project=project,
            key=key,
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


def _present_submitted(project: Project, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "annotation": {
            "id": answer["annotation"],
            "class_ids": answer["class_ids"],
            "action": answer["action"],
            "outcome": answer["outcome"],
            "created_at": answer["created_at"],
        },
        "image_id": answer["image"],
        "message": _message(project, answer),
    }


def _status(project: Any) -> dict[str, Any] | None:
    return presenters.present_status(project, database_now()) if project.access_role else None


def _project_of_labels(request: Request, project_id: int, labels: Sequence[Any]) -> Any:
    """Return the project of labels in flight.

    It may have been archived since the images were served, or the person removed: what they decided
    is kept all the same.

    Raises:
        NotFound: there is no such project, or the person never had one of these images there.
        ProjectArchivedError: the same of an archived one.
    """
    person = person_of(request)
    try:
        return access.project_for(person, project_id)
    except (NotFound, access.ProjectArchivedError):
        sent = [serializers.SubmitIn(data=label) for label in labels]
        tokens = [str(label.validated_data["lease"]) for label in sent if label.is_valid()]
        if not any(selectors.holds_or_held(project_id, person, token) for token in tokens):
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


class AnnotationsView(APIView):
    """The labels of a project, and giving one that the queue did not ask for."""

    parameters = (
        "class", "annotator", "image", "external_id", "since", "current", *PAGED,
    )  # fmt: skip
    query = serializers.AnnotationFilter
    write_scope = Scope.ANNOTATE
    contract = {
        "get": Operation(page_of_many(answers.AnnotationRowOut), role=Role.REVIEWER),
        "post": Operation(
            answers.LabelledOut,
            status=201,
            body=serializers.LabelIn,
            role=Role.ANNOTATOR,
            returns=("ETag",),
            problems=("invalid-classes",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List everybody's, newest first; with ``current=false`` all the history."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        wanted = query_of(request, serializers.AnnotationFilter)
        return page_of(request, selectors.annotations_of(project, wanted), presenters.present_row)

    def post(self, request: Request, project_id: int) -> Response:
        """Say something of an image that the queue did not serve."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.LabelIn)
        try:
            annotation = services.label_image(
                user=person_of(request),
                project=project,
                image_id=_image_id(project, body),
                class_ids=body["class_ids"],
                seconds=body["seconds"],
                now=database_now(),
            )
        except services.ImageGoneError as error:
            raise Problem(404, "not-found", str(error)) from error
        except labeling.InvalidClassesError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        return Response(
            {
                "annotation": present_annotation(annotation),
                "message": DIRECT_MESSAGES.get(Annotation.Outcome(annotation.outcome), ""),
            },
            status=201,
            headers={"ETag": f'"{annotation.pk}"'},
        )


def _image_id(project: Project, body: dict[str, Any]) -> int:
    living = Image.objects.filter(project=project, deleted_at=None)
    name = "image" if "image" in body else "external_id"
    found = living.filter(**{"pk" if name == "image" else name: body[name]}).first()
    if found is None:
        raise Problem(404, "not-found", f"This project has no image with this {name}.")
    return found.pk


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
