"""Serving the files of images: only to members, never as anything but an image."""

from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from rest_framework.exceptions import AuthenticationFailed, NotFound

from annotator.accounts import access
from annotator.accounts.authentication import TokenAuthentication
from annotator.labeling.models import Image

# The files of a key never change, so a browser may keep them; `private` keeps proxies out.
CACHE = "private, max-age=86400, immutable"
MIME_OF = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
}


def image_file(request: HttpRequest, key: str, name: str) -> HttpResponseBase:
    """Answer with the display rendition, the thumbnail or the original of an image.

    Raises:
        Http404: no such image, or the person is not a member of its project.
    """
    image = _image(request, key)
    if name == "original":
        return _answer(
            image.original_name,
            MIME_OF.get(image.file_format, "application/octet-stream"),
            download_as=image.file_name,
        )
    stored = image.display_name if name == "display.jpg" else image.thumbnail_name
    return _answer(stored, "image/jpeg")


def _image(request: HttpRequest, key: str) -> Image:
    user = request.user
    if not user.is_authenticated:
        try:
            signed_in = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
        except AuthenticationFailed as error:
            raise Http404 from error
        if signed_in is None:
            raise Http404
        user = signed_in[0]
    try:
        return access.object_for(user, Image.objects.all(), key=key)
    except (NotFound, access.ProjectArchivedError) as error:
        raise Http404 from error


def _answer(stored: str, mime: str, download_as: str = "") -> HttpResponseBase:
    if not hasattr(default_storage, "location") or not hasattr(default_storage, "path"):
        return HttpResponseRedirect(default_storage.url(stored))
    try:
        file = default_storage.open(stored)
    except FileNotFoundError as error:
        raise Http404 from error
    response = FileResponse(
        file, content_type=mime, as_attachment=bool(download_as), filename=download_as or "image"
    )
    response["Cache-Control"] = CACHE
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
