"""The API of predictions of models outside."""

from typing import Any

import numpy as np
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer
from annotator.api.views import APIView
from annotator.labeling.models import Project
from annotator.labeling.serializers import ExternalIdField
from annotator.labeling.views import query_of
from workqueue import answers, selectors, services
from workqueue.models import ExternalModel, Prediction
from workqueue.prediction_bodies import PredictionsIn
from workqueue.presenters import iso


class PredictionsQuery(StrictSerializer):
    """Which predictions are listed."""

    model = serializers.CharField(
        max_length=80, required=False, help_text="of the model of this name"
    )
    image = serializers.IntegerField(
        min_value=1, max_value=2**63 - 1, required=False, help_text="of this image"
    )
    external_id = ExternalIdField(required=False, help_text="of the image of this external id")
    cursor = serializers.CharField(required=False)
    limit = serializers.CharField(required=False)


class PredictionsView(APIView):
    """What external models say of images."""

    parameters = ("model", "image", "external_id", *PAGED)
    in_steps = ("put",)
    query = PredictionsQuery
    contract = {
        "get": Operation(page_of_many(answers.PredictionOut), role=Role.REVIEWER),
        "put": Operation(
            answers.StoredPredictionsOut,
            body=PredictionsIn,
            role=Role.LEAD,
            problems=("invalid-classes",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List predictions, newest first; ``model``, ``image`` and ``external_id`` choose some."""
        project = access.project_for(person_of(request), project_id, Role.REVIEWER)
        wanted = query_of(request, PredictionsQuery)
        found = Prediction.objects.filter(external_model__project=project)
        if "model" in wanted:
            found = found.filter(external_model__name=wanted["model"])
        if "image" in wanted:
            found = found.filter(image=wanted["image"])
        if "external_id" in wanted:
            found = found.filter(image__external_id=wanted["external_id"], image__deleted_at=None)
        return page_of(request, found.select_related("external_model", "image"), _prediction)

    def put(self, request: Request, project_id: int) -> Response:
        """Store what a model says; the same again changes nothing."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        parsed = PredictionsIn(data=request.data, context={"project": project})
        parsed.is_valid(raise_exception=True)
        body = parsed.validated_data
        posted = body["predictions"]
        try:
            stored = services.put_predictions(
                project=project,
                actor=person_of(request),
                model=body["model"],
                class_ids=body["class_ids"],
                image_ids=posted.image_ids,
                rows=posted.rows,
            )
        except services.PredictionsRefusedError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        return Response(
            {
                "model": body["model"],
                "created": stored.n_created,
                "updated": stored.n_updated,
                "rejected": [_rejected(index, *posted.names[index]) for index in stored.unknown],
            }
        )


def _rejected(index: int, name: str, value: int | str) -> dict[str, Any]:
    pointer = f"/predictions/{index}/{name}"
    return {"pointer": pointer, "code": "image-unknown", name: value}


class ExternalModelsView(APIView):
    """The models whose predictions were posted."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.ExternalModelOut), role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        project = access.project_for(person_of(request), project_id)
        source = selectors.queue_settings(project).predictions_from
        models = ExternalModel.objects.filter(project=project)
        return page_of(request, models, lambda entry: _model(entry, source))


class ExternalModelView(APIView):
    """One model whose predictions were posted."""

    in_steps = ("delete",)
    contract = {
        "get": Operation(answers.ExternalModelOut, role=Role.ANNOTATOR),
        "delete": Operation(None, status=204, role=Role.LEAD, problems=("model-in-use",)),
    }

    def get(self, request: Request, project_id: int, model_id: int) -> Response:
        """Show it."""
        project = access.project_for(person_of(request), project_id)
        source = selectors.queue_settings(project).predictions_from
        return Response(_model(_found(project, model_id), source))

    def delete(self, request: Request, project_id: int, model_id: int) -> Response:
        """Forget it and all its predictions."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        try:
            services.delete_predictions(
                project=project, actor=person_of(request), model=_found(project, model_id)
            )
        except services.ModelInUseError as error:
            raise Problem(409, "model-in-use", str(error)) from error
        return Response(status=204)


def _found(project: Project, model_id: int) -> ExternalModel:
    found = ExternalModel.objects.filter(project=project, pk=model_id).first()
    if found is None:
        raise Problem(404, "not-found", "This project has no such model.")
    return found


def _model(model: ExternalModel, source: str) -> dict[str, Any]:
    return {
        "id": model.pk,
        "name": model.name,
        "class_ids": model.class_ids,
        "n_images": model.n_images,
        "orders_the_queue": model.name == source,
        "created_at": iso(model.created_at),
        "updated_at": iso(model.updated_at),
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    stored = np.frombuffer(bytes(prediction.probabilities), dtype="<f4")
    class_ids = prediction.external_model.class_ids
    return {
        "image_id": prediction.image_id,
        "external_id": prediction.image.external_id or None,
        "model": prediction.external_model.name,
        "probabilities": {
            str(pk): round(float(value), 6) for pk, value in zip(class_ids, stored, strict=False)
        },
    }
