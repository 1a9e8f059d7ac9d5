"""The only file that mounts every app."""

from django.urls import URLPattern, URLResolver, include, path, re_path

import annotator.accounts.urls
import annotator.exports.urls
import annotator.ingest.urls
import annotator.labeling.urls
import annotator.page_urls
import annotator.webhooks.urls
import workqueue.urls
from annotator import health
from annotator.api.fallback import no_such_route
from annotator.api.images import ImagesView, ImageView
from annotator.api.reference import SchemaView, reference
from annotator.labeling.files import image_file

_api = [
    # One address, two apps: the queue shows (it knows the ranks), the apps below change.
    path("projects/<id:project_id>/images/", ImagesView.as_view(), name="images"),
    path("projects/<id:project_id>/images/<id:image_id>/", ImageView.as_view(), name="image"),
    *annotator.accounts.urls.urlpatterns,
    *annotator.labeling.urls.urlpatterns,
    *annotator.ingest.urls.urlpatterns,
    *annotator.exports.urls.urlpatterns,
    *annotator.webhooks.urls.urlpatterns,
    *workqueue.urls.urlpatterns,
    path("schema/", SchemaView.as_view(), name="schema"),
    re_path(r"^.*$", no_such_route),
]

handler400 = "annotator.api.fallback.bad_request"
handler500 = "annotator.api.fallback.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("health/live", health.live, name="health_live"),
    path("health/ready", health.ready, name="health_ready"),
    path("api/v1/", include((_api, "api"))),
    path("api/docs/", reference, name="reference"),
    re_path(
        r"^images/(?P<key>[0-9a-f-]{36})/(?P<name>display\.jpg|thumbnail\.jpg|original)$",
        image_file,
        name="image_file",
    ),
    *annotator.page_urls.urlpatterns,
]
