"""Projects, classes, images and what people said of the images.

Geometry is in upright image pixels (EXIF orientation applied), origin top left, y down.
"""

import hashlib
import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from annotator.accounts.models import Role

MOST_ANNOTATORS = 10


class Project(models.Model):
    """A set of images, the classes to tell apart and the people who do it."""

    # The role of whoever asked, set by annotator.accounts.access.
    access_role: Role | None = None

    class Kind(models.TextChoices):
        ONE_CLASS = "one_class", "One class per image"
        SEVERAL_CLASSES = "several_classes", "Several classes per image"

    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.ONE_CLASS)
    instructions = models.TextField(blank=True, help_text="Markdown")
    annotators_per_image = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_ANNOTATORS)],
        help_text="the overlap: so many people are wanted for each image",
    )
    is_settling = models.BooleanField(
        default=False, help_text="the overlap was changed, and not every image's status follows yet"
    )
    # Counters, kept in the transaction of each change: no COUNT on a hot path.
    n_images = models.PositiveIntegerField(default=0)
    n_labelled = models.PositiveIntegerField(default=0, help_text="images with labels enough")
    n_labels = models.PositiveIntegerField(default=0, help_text="labels that stand, of all people")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(n_labelled__lte=models.F("n_images")),
                name="no_more_labelled_than_images",
            ),
            models.CheckConstraint(
                condition=Q(annotators_per_image__gte=1, annotators_per_image__lte=MOST_ANNOTATORS),
                name="one_to_ten_annotators_per_image",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class LabelClass(models.Model):
    """One entry of the label set. Deleting only hides it: what was said with it stays."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="classes")
    name = models.CharField(max_length=80)
    colour = models.CharField(max_length=7, validators=[RegexValidator(r"^#[0-9a-fA-F]{6}\Z")])
    hotkey = models.CharField(max_length=1, blank=True)
    position = models.PositiveIntegerField(default=0)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(deleted_at__isnull=True),
                name="class_name_is_unique_in_project",
            ),
            models.UniqueConstraint(
                fields=["project", "hotkey"],
                condition=Q(deleted_at__isnull=True) & ~Q(hotkey=""),
                name="hotkey_is_unique_in_project",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Image(models.Model):
    """One picture. The same bytes in a project are the same Image."""

    class Status(models.TextChoices):
        OPEN = "open"
        LABELLED = "labelled"

    # What is said instead of a status once an image is deleted.
    DELETED = "deleted"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="images")
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    random_key = models.BigIntegerField(editable=False)
    sha256 = models.CharField(max_length=64)
    file_name = models.CharField(max_length=255)
    external_id = models.CharField(
        max_length=200, blank=True, help_text="what the sender's own system calls it"
    )
    file_format = models.CharField(max_length=10)
    n_bytes = models.PositiveBigIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    note = models.CharField(max_length=200, blank=True)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "sha256"],
                condition=Q(deleted_at__isnull=True),
                name="same_bytes_same_image",
            ),
            models.UniqueConstraint(
                fields=["project", "external_id"],
                condition=Q(deleted_at__isnull=True) & ~Q(external_id=""),
                name="one_image_of_each_external_id",
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "random_key"],
                condition=Q(status="open", deleted_at__isnull=True),
                name="image_pool",
            ),
            models.Index(fields=["project", "status", "id"], name="image_by_status"),
            models.Index(fields=["project", "random_key", "status"], name="image_random_list"),
            models.Index(
                fields=["project", "-id"],
                condition=Q(deleted_at__isnull=False),
                name="image_deleted",
            ),
        ]

    def __str__(self) -> str:
        return self.file_name

    @staticmethod
    def random_key_of(key: uuid.UUID) -> int:
        """Return the image's place in the project's random list, 0 to 2**62 - 1.

        A hash of the key: uniform, fixed at creation and independent of when the image came, so
        that the first m images of the list are always a uniform sample of the collection.
        """
        digest = hashlib.sha256(b"random list" + key.bytes).digest()
        return int.from_bytes(digest[:8], "big") >> 2

    @property
    def folder(self) -> str:
        """The folder of its files in the media storage."""
        return f"images/{self.project_id}/{self.key.hex[:2]}/{self.key.hex}"

    @property
    def original_name(self) -> str:
        """The stored original, byte for byte as uploaded."""
        return f"{self.folder}/original.{self.file_format}"

    @property
    def display_name(self) -> str:
        """Upright RGB JPEG for the screen, at most 2048 px on the long side."""
        return f"{self.folder}/display.jpg"

    @property
    def thumbnail_name(self) -> str:
        """Upright RGB JPEG with a short side of 256 px, also what the backbone reads."""
        return f"{self.folder}/thumbnail.jpg"


class Annotation(models.Model):
    """What a person (or an import) said of an image at one moment.

    Rows are never changed but for ``is_current``: an edit or a withdrawal is a new row that
    ``replaces`` the former one. The database refuses anything else.
    """

    class Action(models.TextChoices):
        LABEL = "label"
        EDIT = "edit"
        WITHDRAW = "withdraw"
        RESTORE = "restore", "Counts again: what was deleted has been brought back"

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted"
        LATE = "late", "Accepted after the lease had run out"
        SECOND = "second", "Kept beside the label another person gave meanwhile"
        ORPHANED = "orphaned", "Kept although its image, class or project was deleted meanwhile"
        AFTER_REMOVAL = "after_removal", "Kept although the person was removed meanwhile"

    class Source(models.TextChoices):
        PERSON = "person"
        IMPORT = "import"
        SIMULATION = "simulation"

    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="annotations")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="annotations"
    )
    action = models.CharField(max_length=10, choices=Action.choices, default=Action.LABEL)
    outcome = models.CharField(max_length=15, choices=Outcome.choices, default=Outcome.ACCEPTED)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.PERSON)
    is_current = models.BooleanField(default=True)
    replaces = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaced_by"
    )
    # Of a withdrawal: the class whose deletion took the label back.
    due_to_class = models.ForeignKey(
        LabelClass,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    # Why the image was served: heuristic, score, position, model, draw probability.
    served = models.JSONField(default=dict)
    seconds = models.FloatField(null=True, blank=True, help_text="time on screen")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["image", "author"],
                condition=Q(is_current=True),
                name="one_current_annotation_per_person_and_image",
            )
        ]
        indexes = [
            models.Index(fields=["image"], condition=Q(is_current=True), name="annotation_current"),
            models.Index(fields=["author", "-id"], name="annotation_of_author"),
            models.Index(
                fields=["-id"],
                condition=Q(outcome__in=["orphaned", "after_removal"]),
                name="annotation_kept_unused",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} of image {self.image_id} by {self.author_id}"


class AnnotationRegion(models.Model):
    """A class said of the whole image or, in later kinds of project, of a part of it."""

    class Shape(models.TextChoices):
        WHOLE_IMAGE = "image"
        BOX = "box"
        POLYGON = "polygon"
        MASK = "mask"

    annotation = models.ForeignKey(Annotation, on_delete=models.PROTECT, related_name="regions")
    label_class = models.ForeignKey(LabelClass, on_delete=models.PROTECT, related_name="regions")
    shape = models.CharField(max_length=10, choices=Shape.choices, default=Shape.WHOLE_IMAGE)
    geometry = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(shape="image", geometry__isnull=True)
                | (~Q(shape="image") & Q(geometry__isnull=False)),
                name="whole_image_has_no_geometry",
            ),
            models.UniqueConstraint(
                fields=["annotation", "label_class"],
                condition=Q(shape="image"),
                name="a_class_once_per_annotation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label_class_id} as {self.shape}"
