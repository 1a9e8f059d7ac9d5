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
from annotator.labeling.files import SIGNED_FOR_S, signed_urls
from annotator.labeling.models import Image
from annotator.labeling.serializers import ImageFilter
from annotator.labeling.views import query_of
from workqueue import answers, presenters, reports, selectors
from workqueue.agreement import agreement


class ImagesView(APIView):
    """Listing a project's images."""

    parameters = (
        "status", "class", "q", "external_id", "annotator", "score_min", "score_max",
        "uploaded_after", "agreement", *PAGED,
    )  # fmt: skip
    query = ImageFilter
    contract = {
        "get": Operation(page_of_many(ImageOut), role=Role.ANNOTATOR, problems=("forbidden",)),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List the images that fit the filter, newest first, with their labels."""
        wanted = query_of(request, ImageFilter)
        scores = (wanted["score_min"], wanted["score_max"])
        needed = Role.ANNOTATOR if scores == (None, None) else Role.REVIEWER
        if wanted["status"] == Image.DELETED:
            needed = Role.LEAD
        project = access.project_for(person_of(request), project_id, needed)
        images = selectors.gallery(
            project,
            status=wanted["status"],
            class_id=wanted["class"],
            text=wanted["q"],
            external_id=wanted["external_id"],
            annotator_id=wanted["annotator"],
            scores=scores,
            uploaded_after=wanted["uploaded_after"],
            disagreed=wanted["agreement"] == ImageFilter.DIFFERS,
        )
        paging = NewestFirst()
        page = paging.paginate_queryset(images, request, view=self) or []
        annotations = selectors.current_annotations(page)
        return paging.get_paginated_response(
            [presenters.present_labelled(image, annotations[image.pk]) for image in page]
        )


class ImageView(APIView):
    """Showing one image."""

    contract = {"get": Operation(answers.ImageDetailOut, role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int, image_id: int) -> Response:
        """Show it with its labels, addresses that open its files and, for reviewers, its place."""
        person = person_of(request)
        project = access.project_for(person, project_id)
        living = Image.objects.filter(project=project, deleted_at=None)
        image = access.object_for(person, living, pk=image_id)
        place = None
        if project.access_role >= Role.REVIEWER:
            place = selectors.place_of(project, image)
        urls = {
            what: request.build_absolute_uri(address)
            for what, address in signed_urls(image).items()
        }
        return Response(
            {
                **presenters.present_labelled(
                    image, selectors.current_annotations([image])[image.pk]
                ),
                "place": presenters.present_place(place, project) if place else None,
                "urls": urls,
                "urls_expire_in": SIGNED_FOR_S,
            }
        )


class MetricsView(APIView):
    """The figures of the progress page."""

    contract = {"get": Operation(answers.MetricsOut, role=Role.ANNOTATOR)}

    def get(self, request: Request, project_id: int) -> Response:
        """Return labels over time, the learning curve and the figures per class.

        A reviewer also learns of each person how much, how fast and how much as others they label;
        a lead also how far people agree.
        """
        project = access.project_for(person_of(request), project_id)
        metrics = reports.metrics(project)
        if project.access_role >= Role.REVIEWER:
            metrics["annotators"] = reports.annotators(project)
        if project.access_role >= Role.LEAD:
            metrics["agreement"] = presenters.present_agreement(agreement(project))
        return Response(metrics)
