"""Request bodies of the work queue."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from annotator.api.converters import LARGEST_ID
from annotator.api.serializers import StrictSerializer
from annotator.labeling.models import MOST_ANNOTATORS
from annotator.labeling.serializers import ExternalIdField
from workqueue.models import ExternalModel, QueueSettings, Skip
from workqueue.services import MAX_CLAIM

LONGEST_S = 86_400.0
MOST_SUBMITTED = 100
KEY = r"^[\x21-\x7e]{1,80}\Z"
# They ask several heads, or one head about altered embeddings (ml.heuristics, takes_predictions).
ASK_OUR_HEADS = {"variation_ratio", "bald", "drop_query"}


class ClaimIn(StrictSerializer):
    """How many images to hold, and in which tab; 0 only prolongs what is held."""

    n = serializers.IntegerField(
        min_value=0,
        max_value=MAX_CLAIM,
        default=1,
        help_text="how many images to hold; 0 only prolongs what is held",
    )
    client = serializers.CharField(
        max_length=40,
        required=False,
        default="",
        allow_blank=True,
        help_text="names the tab or program, so that two of yours do not share images",
    )
    fresh = serializers.BooleanField(
        required=False,
        default=False,
        help_text="give back what this client holds, but for keep, and take the best again",
    )
    keep = serializers.ListField(
        child=serializers.UUIDField(),
        max_length=MAX_CLAIM,
        required=False,
        default=list,
        help_text="tokens of leases that fresh leaves alone",
    )


class SecondsField(serializers.FloatField):
    """How long a label took; capped, since a tab left open over night must not lose its label."""

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, required=False, default=None, allow_null=True, **more)

    def run_validation(self, data: Any = serializers.empty) -> float | None:
        """Return the seconds, at most as many as are believed."""
        value = super().run_validation(data)
        return None if value is None else min(float(value), LONGEST_S)


class SubmitIn(StrictSerializer):
    """A label."""

    lease = serializers.UUIDField(help_text="the token of the lease")
    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        max_length=1000,
        help_text="the classes the image has; none where none fits and the project allows several",
    )
    seconds = SecondsField(help_text="time on screen")
    key = serializers.RegexField(
        KEY,
        required=False,
        help_text="the idempotency key, where it cannot be sent as a header",
    )


class LabelOfManyIn(SubmitIn):
    """A label beside others: with a key of its own."""

    key = serializers.RegexField(KEY, help_text="its own idempotency key")


@extend_schema_field(LabelOfManyIn)
class LabelAsSent(serializers.JSONField):
    """One of many labels, which the view reads by itself."""


class SubmitManyIn(StrictSerializer):
    """Some labels; each is looked at on its own, so that a bad one does not stop the others."""

    labels = serializers.ListField(
        child=LabelAsSent(allow_null=True),
        min_length=1,
        max_length=MOST_SUBMITTED,
        help_text="`{lease, class_ids, seconds, key}` each, as one alone is sent",
    )


class LabelIn(StrictSerializer):
    """A label outside the queue: of an image by its id, or by what its sender calls it."""

    image = serializers.IntegerField(
        min_value=1, max_value=LARGEST_ID, required=False, help_text="the id of the image, or"
    )
    external_id = ExternalIdField(required=False, help_text="what whoever added it calls it")
    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        max_length=1000,
        help_text="the classes the image has",
    )
    seconds = SecondsField(help_text="time it took")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """See that the image is named in one way."""
        if ("image" in attrs) == ("external_id" in attrs):
            raise serializers.ValidationError({"image": "Give image or external_id."})
        return attrs


class AnnotationFilter(StrictSerializer):
    """Which labels are listed."""

    image = serializers.IntegerField(
        min_value=1, max_value=LARGEST_ID, required=False, help_text="of this image"
    )
    external_id = ExternalIdField(required=False, help_text="of the image of this external id")
    annotator = serializers.IntegerField(
        min_value=1, max_value=LARGEST_ID, required=False, help_text="of this user"
    )
    since = serializers.DateTimeField(required=False, help_text="given then or later")
    current = serializers.ChoiceField(
        choices=["true", "false"], default="true", help_text="only those that stand, or all"
    )
    cursor = serializers.CharField(required=False)
    limit = serializers.CharField(required=False)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields with ``class``, a word of the language, among them."""
        of_class = serializers.IntegerField(
            min_value=1, max_value=LARGEST_ID, required=False, help_text="that say this class"
        )
        return {**super().get_fields(), "class": of_class}


class UndoIn(StrictSerializer):
    """A label to take back."""

    annotation = serializers.IntegerField(
        min_value=1,
        max_value=LARGEST_ID,
        help_text="the label to take back: one of your last twenty",
    )
    client = serializers.CharField(
        max_length=40, required=False, default="", allow_blank=True, help_text="as in claim"
    )
    key = serializers.RegexField(
        KEY,
        required=False,
        help_text="the idempotency key, where it cannot be sent as a header",
    )


class SkipIn(StrictSerializer):
    """Why an image is passed on."""

    reason = serializers.ChoiceField(
        choices=Skip.Reason.choices, default=Skip.Reason.UNSURE, help_text="why"
    )
    comment = serializers.CharField(
        max_length=300, required=False, default="", allow_blank=True, help_text="the same in words"
    )


class UnskipIn(StrictSerializer):
    """Which skip is taken back: that of a lease, or without one all of them."""

    lease = serializers.UUIDField(
        required=False,
        default=None,
        allow_null=True,
        help_text="the token of the lease that was skipped; left out, all skips are taken back",
    )
    client = serializers.CharField(
        max_length=40, required=False, default="", allow_blank=True, help_text="as in claim"
    )


class RankingQuery(StrictSerializer):
    """Which ranking is listed."""

    number = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="of a past ranking"
    )
    cursor = serializers.CharField(required=False)
    limit = serializers.CharField(required=False)


class DownloadQuery(StrictSerializer):
    """As what a model is sent."""

    format = serializers.ChoiceField(
        choices=["safetensors", "onnx"], default="safetensors", help_text="of the file"
    )


class ReleaseIn(StrictSerializer):
    """Whose leases end."""

    user = serializers.IntegerField(
        min_value=1, max_value=2**63 - 1, help_text="the id of the person"
    )


class ReplayIn(StrictSerializer):
    """Which heuristics a bake-off compares."""

    heuristics = serializers.ListField(
        child=serializers.ChoiceField(choices=QueueSettings.Heuristic.choices),
        min_length=1,
        max_length=16,
        required=False,
        default=lambda: ["auto", "margin", "badge", "entropy"],
        help_text="what is compared; random is always added",
    )
    n_seeds = serializers.IntegerField(
        min_value=2, max_value=20, required=False, default=10, help_text="how often each is tried"
    )


class EditIn(StrictSerializer):
    """The classes a label should have."""

    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        max_length=1000,
        help_text="the classes the image has",
    )


class SettingsPatch(StrictSerializer):
    """A change of the queue settings."""

    heuristic = serializers.ChoiceField(
        choices=QueueSettings.Heuristic.choices,
        required=False,
        help_text="what puts the images in order",
    )
    budget_kind = serializers.ChoiceField(
        choices=QueueSettings.Budget.choices,
        required=False,
        help_text="how the rank budget is said",
    )
    budget_value = serializers.IntegerField(
        min_value=1,
        max_value=100_000_000,
        required=False,
        help_text="the percentage or number of images a round scores",
    )
    batch_size = serializers.IntegerField(
        min_value=1, max_value=10_000, required=False, help_text="labels between two rounds"
    )
    exploration_share = serializers.FloatField(
        min_value=0, max_value=1, required=False, help_text="the part of the queue drawn at random"
    )
    lease_minutes = serializers.IntegerField(
        min_value=1,
        max_value=1440,
        required=False,
        help_text="how long an image is held without a heartbeat",
    )
    hold_leases = serializers.IntegerField(
        min_value=1,
        max_value=1000,
        required=False,
        help_text="for so many times that, at most, one person holds an image",
    )
    annotators_per_image = serializers.IntegerField(
        min_value=1,
        max_value=MOST_ANNOTATORS,
        required=False,
        help_text="people wanted for each image",
    )
    training = serializers.ChoiceField(
        choices=QueueSettings.Training.choices,
        required=False,
        help_text="the head alone, or the whole network",
    )
    head = serializers.ChoiceField(
        choices=QueueSettings.Head.choices,
        required=False,
        help_text="the classifier on the embeddings",
    )
    predictions_from = serializers.CharField(
        max_length=80,
        required=False,
        allow_blank=True,
        help_text="the model outside that orders the queue; empty: the one trained here",
    )
    spread_duplicates = serializers.BooleanField(
        required=False, help_text="images that look the same are not asked one after the other"
    )
    balance_classes = serializers.BooleanField(required=False, help_text="rare classes weigh more")
    stop_at_labels = serializers.IntegerField(
        min_value=1,
        max_value=100_000_000,
        required=False,
        allow_null=True,
        help_text="advise to stop at so many labels; null: no such rule",
    )
    stop_at_rounds = serializers.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        allow_null=True,
        help_text="… at so many rounds",
    )
    stop_at_accuracy = serializers.FloatField(
        min_value=0.01, max_value=1, required=False, allow_null=True, help_text="… at this accuracy"
    )
    stop_without_gain = serializers.BooleanField(
        required=False, help_text="… when more labels no longer help"
    )
    stop_is_hard = serializers.BooleanField(
        required=False, help_text="the queue closes when a rule is fulfilled"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the budget against its kind, with the stored value where one is left out."""
        stored: QueueSettings = self.context["stored"]
        kind = attrs.get("budget_kind", stored.budget_kind)
        value = attrs.get("budget_value", stored.budget_value)
        if kind == QueueSettings.Budget.PERCENT and value > 100:
            raise serializers.ValidationError(
                {"budget_value": "A percentage is a number from 1 to 100."}
            )
        self._check_predictions(stored, attrs)
        return attrs

    @staticmethod
    def _check_predictions(stored: QueueSettings, attrs: dict[str, Any]) -> None:
        """Refuse a source without predictions, and what no prediction from outside can answer."""
        name = attrs.get("predictions_from", stored.predictions_from)
        if not name:
            return
        known = ExternalModel.objects.filter(project=stored.project_id, name=name)
        if not known.exists():
            raise serializers.ValidationError(
                {"predictions_from": f"There are no predictions of {name}. Post some first."}
            )
        if attrs.get("heuristic", stored.heuristic) in ASK_OUR_HEADS:
            raise serializers.ValidationError(
                {
                    "heuristic": "This heuristic asks the heads trained here. Choose another for "
                    f"the predictions of {name}."
                }
            )
        if attrs.get("training", stored.training) == QueueSettings.Training.FINE_TUNE:
            raise serializers.ValidationError(
                {"training": "The whole network is trained only when the queue is ordered by it."}
            )
