"""The API of images with their labels, and of the figures of a project."""

from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, NewestFirst
from annotator.api.views import APIView
from annotator.labeling.answers import ImageOut
from annotator.labeling.models import Image
from annotator.labeling.serializers import ImageFilter
from annotator.labeling.views import query_of
from workqueue import answers, presenters, reports, selectors
from workqueue.agreement import agreement


class ImagesView(APIView):
    """Listing a project's images."""

    parameters = ("status", "class", "q", "agreement", *PAGED)
    query = ImageFilter
    contract = {
        "get": Operation(page_of_many(ImageOut), role=Role.ANNOTATOR, problems=("forbidden",)),
    }

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


class MetricsView(APIView):
    """The figures of the progress page."""

    contract = {"get": Operation(answers.MetricsOut, role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int) -> Response:
        """Return labels over time, the learning curve and the figures per class.

        A lead also learns how far people agree.
        """
        project = access.project_for(person_of(request), project_id)
        metrics = reports.metrics(project)
        if project.access_role >= Role.LEAD:
            metrics["agreement"] = presenters.present_agreement(agreement(project))
        return Response(metrics)
