"""``projects/{id}/images/``: GET lists, POST uploads."""

from annotator.ingest.views import ImagesUploadView
from workqueue.views.images import ImagesView as ImagesListView


class ImagesView(ImagesUploadView, ImagesListView):
    """The images of a project."""

    # Uploading is ingest's part, listing is the queue's (it knows the ranks).
    contract = {**ImagesUploadView.contract, **ImagesListView.contract}
