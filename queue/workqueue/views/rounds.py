"""The API of the background work of the queue: rounds, models, bake-offs."""

import io
from typing import Any

from django.http import FileResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.contract import File, Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling.views import body_of, query_of
from workqueue import (
    answers,
    model_downloads,
    presenters,
    requests,
    selectors,
    serializers,
    services,
)
from workqueue.model_files import why_unusable
from workqueue.models import ModelVersion, Round


class RoundsView(APIView):
    """The rounds of a project."""

    parameters = PAGED
    without_body = ("post",)
    contract = {
        "get": Operation(page_of_many(answers.RoundOut), role=Role.ANNOTATOR),
        "post": Operation(answers.RoundOut, status=201, role=Role.LEAD, problems=("round-active",)),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id)
        rounds = Round.objects.filter(project=project).select_related("model_version", "ranking")
        return page_of(request, rounds, presenters.present_round)

    def post(self, request: Request, project_id: int) -> Response:
        """Start one now."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        return _start_round(request, project)


class RoundView(APIView):
    """One round."""

    contract = {"get": Operation(answers.RoundOut, role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int, round_id: int) -> Response:
        """Show it."""
        return Response(presenters.present_round(_round(request, project_id, round_id)))


class RoundRetryView(APIView):
    """A failed round, done again."""

    without_body = ("post",)
    contract = {
        "post": Operation(
            answers.RoundOut,
            status=201,
            role=Role.LEAD,
            problems=("round-not-failed", "round-active"),
        ),
    }

    def post(self, request: Request, project_id: int, round_id: int) -> Response:
        """Start a new round in place of a failed one."""
        failed = _round(request, project_id, round_id, Role.LEAD)
        if failed.state != Round.State.FAILED:
            raise Problem(409, "round-not-failed", "Only a failed round can be tried again.")
        return _start_round(request, failed.project)


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


class ModelsView(APIView):
    """The models of a project."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.ModelOut), role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id)
        in_use = selectors.queue_state(project).model_version_id
        models = ModelVersion.objects.filter(project=project)
        return page_of(request, models, lambda entry: presenters.present_model(entry, in_use))


class ModelView(APIView):
    """One model."""

    contract = {"get": Operation(answers.ModelOut, role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int, model_id: int) -> Response:
        """Show it with its figures."""
        project = access.project_for(person_of(request), project_id)
        model = _model(request, project_id, model_id)
        in_use = selectors.queue_state(project).model_version_id
        return Response(presenters.present_model(model, in_use))


class ModelDownloadView(APIView):
    """One model as a file."""

    parameters = ("format",)
    query = serializers.DownloadQuery
    contract = {
        "get": Operation(
            File("application/octet-stream"),
            also={304: None},
            role=Role.REVIEWER,
            sends=("If-None-Match",),
            returns=("ETag",),
            problems=("model-unusable",),
        ),
    }

    def get(self, request: Request, project_id: int, model_id: int) -> HttpResponseBase:
        """Send the head, from embeddings to probabilities, as safetensors or ONNX."""
        model = _model(request, project_id, model_id, Role.REVIEWER)
        what = query_of(request, serializers.DownloadQuery)["format"]
        etag = model_downloads.etag_of(model, what)
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if request.headers.get("If-None-Match") == etag:
            return Response(status=304, headers=headers)
        make = {"safetensors": model_downloads.as_safetensors, "onnx": model_downloads.as_onnx}
        return FileResponse(
            io.BytesIO(make[what](_head(model))),
            as_attachment=True,
            filename=f"project-{project_id}-model-{model.number}.{what}",
            content_type="application/octet-stream",
            headers=headers,
        )


def _head(model: ModelVersion) -> model_downloads.StoredHead:
    if problem := why_unusable(model):
        raise Problem(409, "model-unusable", f"Model {model.number} cannot be used: {problem}.")
    try:
        return model_downloads.read(model)
    except model_downloads.UnknownFormatError as error:
        raise Problem(409, "model-unusable", f"Model {model.number}: {error}.") from error


def _model(
    request: Request, project_id: int, model_id: int, at_least: Role = Role.ANNOTATOR
) -> ModelVersion:
    models = ModelVersion.objects.filter(project=project_id)
    return access.object_for(person_of(request), models, at_least=at_least, pk=model_id)


class ModelPromoteView(APIView):
    """Going back to a former model."""

    without_body = ("post",)
    in_steps = ("post",)
    contract = {
        "post": Operation(answers.PromotedModelOut, role=Role.LEAD, problems=("model-unusable",)),
    }

    def post(self, request: Request, project_id: int, model_id: int) -> Response:
        """Let it be the one in use; the answer says what that changes."""
        model = _model(request, project_id, model_id, Role.LEAD)
        try:
            promoted = services.promote(model=model, actor=person_of(request))
        except services.ModelUnusableError as error:
            raise Problem(409, "model-unusable", str(error)) from error
        return Response({**presenters.present_model(model, model.pk), "message": promoted.sentence})


class ReplaysView(APIView):
    """Bake-offs of a project."""

    parameters = PAGED
    contract = {
        "get": Operation(page_of_many(answers.ReplayOut), role=Role.REVIEWER),
        "post": Operation(
            answers.ReplayOut,
            status=202,
            body=serializers.ReplayIn,
            role=Role.LEAD,
            problems=("replay-active",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        return page_of(request, selectors.replays(project), presenters.present_replay)

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

    contract = {"get": Operation(answers.ReplayOut, role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int, replay_id: int) -> Response:
        """Show its progress or its result."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        replay = access.object_for(
            person_of(request), selectors.replays(project), at_least=Role.REVIEWER, pk=replay_id
        )
        return Response(presenters.present_replay(replay))


class JobRetryView(APIView):
    """Background work that has failed, done again."""

    without_body = ("post",)
    contract = {
        "post": Operation(
            answers.RetriedJobOut, status=202, role=Role.LEAD, problems=("job-not-failed",)
        ),
    }

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
