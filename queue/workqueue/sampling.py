"""Which images are a random sample of the collection, whoever chose them.

The project's random list orders all images by a hash. The images before the first one that is still
open are a uniform sample of the collection.
"""

from django.db.models import Exists, OuterRef

from annotator.exports.hooks import RandomSample
from annotator.labeling.models import Annotation, Image, Project
from workqueue.models import ModelVersion, Skip

# So much smaller the sample of all images may be than that of the older ones, and still counts.
KEEPS = 0.8


def random_sample(project: Project) -> RandomSample:
    """Return the sample the next accuracy would be measured on; see `learning.load_labelled`."""
    newest = (
        Image.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True).first()
    )
    of_all = RandomSample(first_gap(project, newest or 0), newest or 0)
    frame = frame_before(project)
    if frame in {0, newest}:
        return of_all
    of_old = RandomSample(first_gap(project, frame), frame)
    return of_all if _size(project, of_all) >= KEEPS * _size(project, of_old) else of_old


def _size(project: Project, sample: RandomSample) -> int:
    standing = Exists(Annotation.objects.filter(image=OuterRef("pk"), is_current=True))
    images = Image.objects.filter(
        standing,
        project=project,
        deleted_at=None,
        random_key__lt=sample.below,
        pk__lte=sample.until,
    )
    return images.count()


def frame_before(project: Project) -> int:
    """Return the newest image the last measured random sample stood for (0: none)."""
    last = ModelVersion.objects.filter(project=project).order_by("-number").first()
    return int(last.metrics.get("frame_until") or 0) if last else 0


def first_gap(project: Project, newest: int) -> int:
    """Return the place of the first image, up to the newest one, that waits for its first label.

    An image that more people are asked for has a label and opens no gap, and neither does one that
    was skipped.
    """
    skipped = Exists(Skip.objects.filter(image=OuterRef("pk")))
    standing = Exists(Annotation.objects.filter(image=OuterRef("pk"), is_current=True))
    gap = (
        Image.objects.filter(
            project=project, status=Image.Status.OPEN, deleted_at=None, pk__lte=newest
        )
        .filter(~skipped, ~standing)
        .order_by("random_key")
        .values_list("random_key", flat=True)
        .first()
    )
    return 2**62 if gap is None else gap
