"""``projects/{id}/images/``: GET lists, POST uploads; and one image: GET shows, DELETE removes."""

from annotator.ingest.views import ImagesUploadView
from annotator.labeling.views import ImageDeleteView
from workqueue.views.images import ImagesView as ImagesListView
from workqueue.views.images import ImageView as ImageShowView


class ImagesView(ImagesUploadView, ImagesListView):
    """The images of a project."""

    # Uploading is ingest's part, listing is the queue's (it knows the ranks).
    contract = {**ImagesUploadView.contract, **ImagesListView.contract}


class ImageView(ImageDeleteView, ImageShowView):
    """One image."""

    # Deleting is labeling's part, showing is the queue's.
    contract = {**ImageDeleteView.contract, **ImageShowView.contract}
