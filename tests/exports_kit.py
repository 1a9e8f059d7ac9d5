"""What the tests of exports share: labels, files of pictures, and an export from start to end."""

import hashlib
import io

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from factories import class_of, make_label, make_user
from PIL import Image as Picture

from annotator.exports import services
from annotator.exports.models import Export
from annotator.exports.records import Wanted
from annotator.jobs import services as jobs
from annotator.labeling.models import Image

SERVED = {
    "kind": "heuristic", "heuristic": "margin", "score": 0.93, "position": 4, "model": 2,
    "explored": False, "draw_probability": None,
}  # fmt: skip


@transaction.atomic
def say(image, author, *names, **fields):
    """Let a person say that the image is of these classes."""
    image = Image.objects.select_related("project").get(pk=image.pk)
    fields = {"served": SERVED, "seconds": 1.5} | fields
    classes = [class_of(image.project, name) for name in names]
    return make_label(image, author, *classes, **fields)


def store_pictures(images, form="PNG"):
    """Give the images real files; return image id -> the bytes of the original."""
    contents = {}
    for image in images:
        content = picture(image.pk, form)
        contents[image.pk] = content
        Image.objects.filter(pk=image.pk).update(
            sha256=hashlib.sha256(content).hexdigest(),
            file_format=form.lower(),
            n_bytes=len(content),
        )
        image.refresh_from_db()
        default_storage.save(image.original_name, ContentFile(content))
        default_storage.save(image.display_name, ContentFile(picture(image.pk, "JPEG")))
    return contents


def picture(number, form):
    written = io.BytesIO()
    Picture.new("RGB", (8, 6), (number % 256, 90, 40)).save(written, form)
    return written.getvalue()


def start(project, format_name, actor=None, **options):
    options = {**vars(Wanted()), "class_ids": [], "address": "https://a.example/"} | options
    return services.start_export(
        project=project, actor=actor or make_user(), format_name=format_name, options=options
    )


def do(export):
    """Do the job of an export; return what became of it, and the export."""
    outcome = jobs.run(export.job_id)
    return outcome, Export.objects.select_related("job").get(pk=export.pk)


def export_bytes(project, format_name, **options):
    """Return the bytes of a new export."""
    outcome, export = do(start(project, format_name, **options))
    assert outcome == "done", export.job.error
    assert hashlib.sha256(export.path.read_bytes()).hexdigest() == export.sha256
    assert export.path.stat().st_size == export.n_bytes
    return export.path.read_bytes()
