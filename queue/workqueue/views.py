"""The API of the work queue: parse, reach the object, call, answer."""

import hashlib
import json
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.conditions import if_match, require_if_match
from annotator.api.paging import ByPosition, NewestFirst
from annotator.api.problems import Problem
from annotator.clock import database_now
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, Project
from annotator.labeling.presenters import present_annotation
from annotator.labeling.serializers import ImageFilter
from annotator.labeling.views import body_of, query_of
from workqueue import presenters, reports, requests, selectors, serializers, services
from workqueue.agreement import agreement
from workqueue.models import ModelVersion, QueueSettings, Round

OUTCOME_MESSAGES = {
    Annotation.Outcome.LATE: "Your time for this image had run out; the label was kept anyway.",
    Annotation.Outcome.AFTER_REMOVAL: "You were removed from this project meanwhile. Your label is "
    "kept for its leads, but it does not count.",
    Annotation.Outcome.SECOND: "Somebody else labelled this image meanwhile; both labels are kept.",
}


class ClaimView(APIView):
    """Getting images to label."""

    def post(self, request: Request, project_id: int) -> Response:
        """Lease the best free images."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.ClaimIn)
        now = database_now()
        claimed = services.claim(
            user=person_of(request),
            project=project,
            n=body["n"],
            client=body["client"],
            fresh=body["fresh"],
            keep=[str(token) for token in body["keep"]],
            now=now,
        )
        empty = None if claimed.leases else selectors.why_empty(project, person_of(request), now)
        return Response(presenters.present_claim(project, claimed.leases, empty, now))


class SubmitView(APIView):
    """Giving a label."""

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


class LeasesView(APIView):
    """Who holds what."""

    def get(self, request: Request, project_id: int) -> Response:
        """List the live leases with who holds them since when and until when, for a lead."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        leases = selectors.live_leases(project, database_now())[:200]
        return Response({"results": [presenters.present_holding(lease) for lease in leases]})


class PersonReleaseView(APIView):
    """Taking back what one person holds."""

    def post(self, request: Request, project_id: int) -> Response:
        """End all leases of the person; their images are served again at their old ranks."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        body = body_of(request, serializers.ReleaseIn)
        n = services.release_person(project=project, user_id=body["user"], actor=person_of(request))
        return Response({"n": n})


class LeaseView(APIView):
    """One lease of the person: ``heartbeat``, ``release`` or ``skip``."""

    action = ""

    def post(self, request: Request, project_id: int, token: str) -> Response:
        """Do the action of the route."""
        project = access.project_for(person_of(request), project_id)
        try:
            return getattr(self, f"_{self.action}")(request, project, str(token))  # type: ignore[no-any-return]
        except services.LeaseUnknownError as error:
            raise Problem(404, "lease-unknown", str(error)) from error
        except services.LeaseLostError as error:
            raise Problem(409, "lease-lost", str(error)) from error

    def _heartbeat(self, request: Request, project: Any, token: str) -> Response:
        until = services.heartbeat(
            user=person_of(request), project=project, lease_token=token, now=database_now()
        )
        return Response({"expires_at": presenters.iso(until)})

    def _release(self, request: Request, project: Any, token: str) -> Response:
        services.release(user=person_of(request), project=project, lease_token=token)
        return Response(status=204)

    def _skip(self, request: Request, project: Any, token: str) -> Response:
        body = body_of(request, serializers.SkipIn)
        services.skip(user=person_of(request), project=project, lease_token=token, **body)
        return Response({"status": presenters.present_status(project, database_now())})


class UnskipView(APIView):
    """Taking skipped images back."""

    def post(self, request: Request, project_id: int) -> Response:
        """Bring skipped images back: that of one lease, leased again, or all into the queue."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.UnskipIn)
        if body["lease"] is None:
            return Response({"n": services.unskip(user=person_of(request), project=project)})
        try:
            lease = services.unskip_one(
                user=person_of(request),
                project=project,
                lease_token=str(body["lease"]),
                client=body["client"],
                now=database_now(),
            )
        except services.LeaseUnknownError as error:
            raise Problem(404, "lease-unknown", str(error)) from error
        except services.UnskipRefusedError as error:
            raise Problem(409, "unskip-refused", str(error)) from error
        lease.project = project
        return Response(
            {
                "n": 1,
                "lease": presenters.present_lease(lease, presenters.classes_of(project)),
                "status": presenters.present_status(project, database_now()),
            }
        )


class StatusView(APIView):
    """The state of the queue, for polling."""

    def get(self, request: Request, project_id: int) -> Response:
        """Return the state, or 304 when nothing changed since the client's ETag."""
        project = access.project_for(person_of(request), project_id)
        now = database_now()
        status = {
            **presenters.present_status(project, now),
            "n_held_by_you": selectors.n_held(project, person_of(request), now),
        }
        etag = f'"{hashlib.sha256(json.dumps(status).encode()).hexdigest()[:32]}"'
        if request.headers.get("If-None-Match") == etag:
            return Response(status=304, headers={"ETag": etag})
        return Response(status, headers={"ETag": etag, "Cache-Control": "private, no-cache"})


class SettingsView(APIView):
    """The queue settings."""

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
                version=_if_match(request),
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


def _if_match(request: Request) -> int | None:
    text = if_match(request)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(412, "version-mismatch", "If-Match is not a version of this object.")
    return int(text)


class SettingsHistoryView(APIView):
    """Who changed the queue settings when."""

    def get(self, request: Request, project_id: int) -> Response:
        """List the changes, newest first."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        history = reports.settings_history(project)
        return Response(
            {"results": [{**entry, "at": presenters.iso(entry["at"])} for entry in history]}
        )


class RankingView(APIView):
    """The current ranking."""

    def get(self, request: Request, project_id: int) -> Response:
        """List its positions whose images are still open."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        paging = ByPosition()
        page = paging.paginate_queryset(selectors.ranked_images(project), request, view=self)
        classes = presenters.classes_of(project)
        return paging.get_paginated_response(
            [presenters.present_position(ranked, classes) for ranked in page or []]
        )


class RoundsView(APIView):
    """The rounds of a project."""

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id)
        rounds = Round.objects.filter(project=project).select_related("model_version", "ranking")
        paging = NewestFirst()
        page = paging.paginate_queryset(rounds, request, view=self)
        return paging.get_paginated_response(
            [presenters.present_round(entry) for entry in page or []]
        )

    def post(self, request: Request, project_id: int) -> Response:
        """Start one now."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        return _start_round(request, project)


class RoundView(APIView):
    """One round."""

    def get(self, request: Request, project_id: int, round_id: int) -> Response:
        """Show it."""
        return Response(presenters.present_round(_round(request, project_id, round_id)))


class RoundRetryView(APIView):
    """A failed round, done again."""

    def post(self, request: Request, project_id: int, round_id: int) -> Response:
        """Start a new round in place of a failed one."""
        failed = _round(request, project_id, round_id, Role.LEAD)
        if failed.state != Round.State.FAILED:
            raise Problem(409, "round-not-failed", "Only a failed round can be tried again.")
        return _start_round(request, failed.project)


class ModelsView(APIView):
    """The models of a project."""

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id)
        in_use = selectors.queue_state(project).model_version_id
        paging = NewestFirst()
        models = ModelVersion.objects.filter(project=project)
        page = paging.paginate_queryset(models, request, view=self)
        return paging.get_paginated_response(
            [presenters.present_model(entry, in_use) for entry in page or []]
        )


class ModelPromoteView(APIView):
    """Going back to a former model."""

    def post(self, request: Request, project_id: int, model_id: int) -> Response:
        """Let it be the one in use; the answer says what that changes."""
        models = ModelVersion.objects.filter(project=project_id)
        model = access.object_for(person_of(request), models, at_least=Role.LEAD, pk=model_id)
        try:
            promoted = services.promote(model=model, actor=person_of(request))
        except services.ModelUnusableError as error:
            raise Problem(409, "model-unusable", str(error)) from error
        return Response({**presenters.present_model(model, model.pk), "message": promoted.sentence})


class ReplaysView(APIView):
    """Bake-offs of a project."""

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        paginator = NewestFirst()
        page = paginator.paginate_queryset(selectors.replays(project), request, view=self)
        return paginator.get_paginated_response(
            [presenters.present_replay(row) for row in page or []]
        )

    def post(self, request: Request, project_id: int) -> Response:
        """Start one in the background."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        body = body_of(request, serializers.ReplayIn)
        started = requests.request_replay(
            project=project,
            heuristics=body["heuristics"],
            n_seeds=body["n_seeds"],
            actor=person_of(request),
        )
        if started is None:
            raise Problem(409, "replay-active", "A bake-off is under way; wait for its result.")
        return Response(presenters.present_replay(started), status=202)


class ReplayView(APIView):
    """One bake-off."""

    def get(self, request: Request, project_id: int, replay_id: int) -> Response:
        """Show its progress or its result."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        replay = access.object_for(
            person_of(request), selectors.replays(project), at_least=Role.REVIEWER, pk=replay_id
        )
        return Response(presenters.present_replay(replay))


class JobRetryView(APIView):
    """Background work that has failed, done again."""

    def post(self, request: Request, project_id: int, job_id: int) -> Response:
        """Ask for the same work again."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        job = access.object_for(
            person_of(request), Job.objects.filter(project=project), at_least=Role.LEAD, pk=job_id
        )
        if job.state != Job.State.FAILED:
            raise Problem(409, "job-not-failed", "Only work that has failed can be tried again.")
        if job.kind == "embed":
            requests.request_embedding(project_id=project.pk)
        else:
            jobs.retry(job=job)
        return Response({"id": job.pk, "kind": job.kind}, status=202)


def _start_round(request: Request, project: Any) -> Response:
    started = requests.request_round(
        project=project, trigger=Round.Trigger.PERSON, actor=person_of(request)
    )
    if started is None:
        active = selectors.newest_round(project)
        raise Problem(
            409,
            "round-active",
            "A round is under way; the order changes when it ends.",
            round=presenters.present_round(active) if active else None,
        )
    return Response(presenters.present_round(started), status=201)


def _round(
    request: Request, project_id: int, round_id: int, at_least: Role = Role.ANNOTATOR
) -> Round:
    rounds = Round.objects.filter(project=project_id).select_related("model_version", "ranking")
    return access.object_for(person_of(request), rounds, at_least=at_least, pk=round_id)


class ImagesView(APIView):
    """Listing a project's images."""

    def get(self, request: Request, project_id: int) -> Response:
        """List the images that fit the filter, newest first, with their labels."""
        wanted = query_of(request, ImageFilter)
        needed = Role.LEAD if wanted["status"] == Image.DELETED else Role.ANNOTATOR
        project = access.project_for(person_of(request), project_id, needed)
        images = selectors.gallery(
            project,
            status=wanted["status"],
            class_id=wanted["class"],
            text=wanted["q"],
            disagreed=wanted["agreement"] == ImageFilter.DIFFERS,
        )
        paging = NewestFirst()
        page = paging.paginate_queryset(images, request, view=self) or []
        annotations = selectors.current_annotations(page)
        return paging.get_paginated_response(
            [presenters.present_labelled(image, annotations[image.pk]) for image in page]
        )


class MyAnnotationsView(APIView):
    """The person's last labels."""

    def get(self, request: Request, project_id: int) -> Response:
        """List the last ones, newest first."""
        project = access.project_for(person_of(request), project_id)
        mine = selectors.last_annotations(project, person_of(request), services.UNDO_DEPTH)
        return Response({"results": [presenters.present_mine(entry) for entry in mine]})


class KeptLabelsView(APIView):
    """Labels that are kept in the history and do not count."""

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first, each with why."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        paging = NewestFirst()
        kept = selectors.labels_kept_unused(project)
        page = paging.paginate_queryset(kept, request, view=self)
        return paging.get_paginated_response(
            [presenters.present_kept(entry) for entry in page or []]
        )


class AnnotationView(APIView):
    """One label. An edit is a new label with a new id, so its id is also its version."""

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
        version = _if_match(request)
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

    def get(self, request: Request, annotation_id: int) -> Response:
        """List all its author said of the image, oldest first, with who changed what."""
        annotation = _annotation(request, annotation_id)
        rows = selectors.history_of(annotation)
        by = selectors.changed_by(annotation)
        return Response({"results": presenters.present_history(rows, by)})


class MetricsView(APIView):
    """The figures of the progress page."""

    def get(self, request: Request, project_id: int) -> Response:
        """Return labels over time, the learning curve and the figures per class.

        A lead also learns how far people agree.
        """
        project = access.project_for(person_of(request), project_id)
        metrics = reports.metrics(project)
        if project.access_role >= Role.LEAD:
            metrics["agreement"] = presenters.present_agreement(agreement(project))
        return Response(metrics)
