"""Serving the files of images: only to members, never as anything but an image.

A signed address of one file, given to a member, opens it for a while without signing in.
"""

from uuid import UUID

from django.core.files.storage import default_storage
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponseForbidden,
    HttpResponseRedirect,
)
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import urlencode
from rest_framework.exceptions import AuthenticationFailed, NotFound

from annotator.accounts import access
from annotator.accounts.authentication import TokenAuthentication
from annotator.labeling.models import Image
from annotator.prepared import Given, Prepared

# The files of a key never change, so a browser may keep them; `private` keeps proxies out.
CACHE = "private, max-age=86400, immutable"
FILES = {"original": "original", "display": "display.jpg", "thumbnail": "thumbnail.jpg"}
SIGNED_FOR_S = 900
_IMAGE = Prepared(lambda: Image.objects.filter(key=Given("key")))
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
    signature = request.GET.get("signature")
    if signature is None:
        return _file_of(_image(request, key), name)
    try:
        _signer().unsign(f"{key}/{name}:{signature}", max_age=SIGNED_FOR_S)
    except SignatureExpired:
        return _refused(
            "This address has expired. Ask the API for the image again: it has a new one."
        )
    except BadSignature:
        return _refused("The signature in this address is not of this file.")
    response = _file_of(_living(key), name)
    # Whoever has the address may show the picture on a page of their own.
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def signed_urls(image: Image) -> dict[str, str]:
    """Return the addresses, without the host, that open the files of an image for a while."""
    signer = _signer()
    addresses = {}
    for what, name in FILES.items():
        file = f"{image.key}/{name}"
        query = urlencode({"signature": signer.sign(file).removeprefix(f"{file}:")})
        addresses[what] = f"{reverse('image_file', args=[image.key, name])}?{query}"
    return addresses


def _signer() -> TimestampSigner:
    return TimestampSigner(salt="file of an image")


def _refused(why: str) -> HttpResponseBase:
    return HttpResponseForbidden(f"{why}\n", content_type="text/plain; charset=utf-8")


def _living(key: str) -> Image:
    found = Image.objects.filter(key=key, deleted_at=None, project__deleted_at=None).first()
    if found is None:
        raise Http404
    return found


def _file_of(image: Image, name: str) -> HttpResponseBase:
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
        image = _IMAGE.first(key=UUID(key))
        if image is None:
            raise Http404
        access.project_for(user, image.project_id)
    # ValueError: hyphens in other places than a key has them.
    except (ValueError, NotFound, access.ProjectArchivedError) as error:
        raise Http404 from error
    return image


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
