"""Request bodies of projects, classes, members and invitations."""

from typing import Any

from rest_framework import serializers

from annotator.accounts.models import Role
from annotator.api.converters import LARGEST_ID
from annotator.api.paging import LARGEST_PAGE
from annotator.api.serializers import NameField, StrictSerializer
from annotator.labeling.models import Image, Project
from annotator.labeling.services import MAX_CLASSES, ClassSpec

MAX_EXTERNAL_ID = 200


class ExternalIdField(serializers.RegexField):
    """What another system calls an image: one line of text, exactly as it is sent."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            r"^(?!\s)[^\x00-\x1f\x7f]*(?<!\s)\Z",
            max_length=MAX_EXTERNAL_ID,
            trim_whitespace=False,
            error_messages={"invalid": "An external id is one line, with no space at its ends."},
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> str:
        """Return the text; a number is none, though it could be written as one.

        Raises:
            ValidationError: it is no text.
        """
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


ROLE_NAMES = {role.label.lower(): role for role in Role}


class ClassIn(StrictSerializer):
    """A class to add; colour and key are chosen when left out."""

    name = NameField(max_length=80, help_text="its name")
    colour = serializers.RegexField(
        r"^#[0-9a-fA-F]{6}\Z",
        required=False,
        default="",
        help_text="as #rrggbb; chosen when left out",
    )
    hotkey = serializers.RegexField(
        r"^[1-9a-z]?\Z",
        required=False,
        default="",
        allow_blank=True,
        error_messages={"invalid": "A key is one of 1-9 or a-z."},
        help_text="its key on the labeling page, 1-9 or a-z; chosen when left out",
    )

    def validate_hotkey(self, value: str) -> str:
        """Refuse the keys the labeling page uses itself."""
        return refuse_taken_key(value)


class ClassPatch(ClassIn):
    """A change of a class."""

    name = NameField(max_length=80, required=False, help_text="its name")
    colour = serializers.RegexField(r"^#[0-9a-fA-F]{6}\Z", required=False, help_text="as #rrggbb")
    hotkey = serializers.RegexField(
        r"^[1-9a-z]?\Z",
        required=False,
        allow_blank=True,
        help_text="its key on the labeling page, 1-9 or a-z; empty for none",
    )
    position = serializers.IntegerField(
        min_value=0, max_value=100_000, required=False, help_text="its place in the order, from 0"
    )


# Keys that do something else on the labeling page (docs/labeling.md).
TAKEN_KEYS = set("fhiprswz")


def refuse_taken_key(value: str) -> str:
    """Return the key.

    Raises:
        ValidationError: the labeling page uses it for something else.
    """
    if value in TAKEN_KEYS:
        raise serializers.ValidationError(
            f"The key “{value}” does something else on the labeling page. Choose another."
        )
    return value


class ProjectIn(StrictSerializer):
    """A project to create."""

    name = NameField(max_length=120, help_text="its name")
    kind = serializers.ChoiceField(
        choices=Project.Kind.choices,
        default=Project.Kind.ONE_CLASS,
        help_text="one class for each image, or several",
    )
    instructions = serializers.CharField(
        max_length=100_000,
        required=False,
        default="",
        allow_blank=True,
        trim_whitespace=False,
        help_text="what people read before they label, as Markdown",
    )
    classes = ClassIn(
        many=True, required=False, default=list, help_text="the label set; it can be changed later"
    )

    def validate_classes(self, value: list[dict[str, Any]]) -> list[ClassSpec]:
        """Return the classes as the service takes them."""
        if len(value) > MAX_CLASSES:
            raise serializers.ValidationError(f"A project can have at most {MAX_CLASSES} classes.")
        return [ClassSpec(**entry) for entry in value]


class ProjectPatch(StrictSerializer):
    """A change of a project."""

    name = NameField(max_length=120, required=False, help_text="its name")
    instructions = serializers.CharField(
        max_length=100_000,
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="what people read before they label, as Markdown",
    )


class RoleField(serializers.ChoiceField):
    """A role by its name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            choices=[(name, role.label) for name, role in ROLE_NAMES.items()], **kwargs
        )

    def to_internal_value(self, data: Any) -> Any:
        """Return the role for its name."""
        return ROLE_NAMES[super().to_internal_value(data)]

    def to_representation(self, value: Any) -> str:
        """Return the name, of a default for example."""
        return str(value.label).lower()


class MemberPatch(StrictSerializer):
    """A change of a member's role."""

    role = RoleField(help_text="the new role")


class InvitationIn(StrictSerializer):
    """An invitation to create."""

    role = RoleField(default=Role.ANNOTATOR, help_text="the role whoever opens it gets")
    note = NameField(
        max_length=100, required=False, default="", allow_blank=True, help_text="who it is for"
    )
    uses = serializers.IntegerField(
        min_value=1, max_value=1000, default=1, help_text="how many people can use it"
    )
    days = serializers.IntegerField(
        min_value=1, max_value=365, default=7, help_text="days until it ends"
    )


class ImageFilter(StrictSerializer):
    """What to list of a project's images."""

    DIFFERS = "differs"

    status = serializers.ChoiceField(
        choices=[*Image.Status.choices, (Image.DELETED, "Deleted")],
        required=False,
        default="",
        help_text="images in this state; deleted ones are for leads",
    )
    # `class` is a word of the language, so the field is declared by name below.
    q = serializers.CharField(
        max_length=200,
        required=False,
        default="",
        allow_blank=True,
        help_text="a part of the file name",
    )
    external_id = ExternalIdField(
        required=False, default="", help_text="what whoever added it calls it"
    )
    annotator = serializers.IntegerField(
        min_value=1,
        max_value=LARGEST_ID,
        required=False,
        default=None,
        help_text="labelled by this user",
    )
    score_min = serializers.FloatField(
        min_value=0,
        max_value=1,
        required=False,
        default=None,
        help_text="of the current ranking, from this on",
    )
    score_max = serializers.FloatField(
        min_value=0,
        max_value=1,
        required=False,
        default=None,
        help_text="of the current ranking, up to this",
    )
    uploaded_after = serializers.DateTimeField(
        required=False, default=None, help_text="added later than this"
    )
    agreement = serializers.ChoiceField(
        choices=[(DIFFERS, "People disagree")],
        required=False,
        default="",
        allow_blank=True,
        help_text="differs: images people disagree on",
    )
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, required=False)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields with ``class`` among them."""
        return {
            **super().get_fields(),
            "class": serializers.IntegerField(
                min_value=1,
                max_value=LARGEST_ID,
                required=False,
                default=None,
                help_text="the id of a class: images with labels of it",
            ),
        }
