"""Who labels what next: settings, embeddings, model versions, rounds, rankings and leases."""

import uuid
from datetime import timedelta

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q


class QueueSettings(models.Model):
    """What a lead decides about a project's queue; used from the next ranking on."""

    class Heuristic(models.TextChoices):
        AUTO = "auto", "Auto"
        DIVERSE_MARGIN = "diverse_margin", "Diverse margin"
        MARGIN = "margin", "Margin"
        BADGE = "badge", "BADGE"
        CLUSTER_MARGIN = "cluster_margin", "Cluster margin"
        POWER_MARGIN = "power_margin", "Power margin"
        ENTROPY = "entropy", "Entropy"
        VARIANCE = "variance", "Variance"
        LEAST_CONFIDENCE = "least_confidence", "Least confidence"
        VARIATION_RATIO = "variation_ratio", "Variation ratio"
        BALD = "bald", "BALD"
        DROP_QUERY = "drop_query", "DropQuery"
        TYPICLUST = "typiclust", "TypiClust"
        K_CENTER = "k_center", "k-center"
        RANDOM = "random", "Random"
        NONE = "none", "None (file order)"

    class Head(models.TextChoices):
        LOGISTIC = "logistic", "Logistic regression"
        MLP = "mlp", "One hidden layer"
        ENSEMBLE = "ensemble", "Ensemble of five"

    class Training(models.TextChoices):
        HEAD = "head", "Head only"
        FINE_TUNE = "fine_tune", "Whole network"

    class Budget(models.TextChoices):
        WHOLE_POOL = "whole_pool", "The whole pool"
        PERCENT = "percent", "A percentage of the pool"
        NUMBER = "number", "A number of images"

    project = models.OneToOneField(
        "labeling.Project", on_delete=models.CASCADE, related_name="queue_settings"
    )
    heuristic = models.CharField(max_length=20, choices=Heuristic.choices, default=Heuristic.AUTO)
    budget_kind = models.CharField(max_length=12, choices=Budget.choices, default=Budget.WHOLE_POOL)
    budget_value = models.PositiveIntegerField(default=100)
    batch_size = models.PositiveIntegerField(
        default=20, validators=[MinValueValidator(1), MaxValueValidator(10_000)]
    )
    exploration_share = models.FloatField(
        default=0.1, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )
    lease_minutes = models.PositiveIntegerField(
        default=10, validators=[MinValueValidator(1), MaxValueValidator(1440)]
    )
    hold_leases = models.PositiveIntegerField(
        default=12,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="for so many lease lengths at most one person holds an image",
    )
    training = models.CharField(max_length=10, choices=Training.choices, default=Training.HEAD)
    head = models.CharField(max_length=10, choices=Head.choices, default=Head.LOGISTIC)
    predictions_from = models.CharField(
        max_length=80, blank=True, help_text="an external model; empty: the model trained here"
    )
    spread_duplicates = models.BooleanField(default=True)
    balance_classes = models.BooleanField(default=False)
    stop_at_labels = models.PositiveIntegerField(null=True, validators=[MinValueValidator(1)])
    stop_at_rounds = models.PositiveIntegerField(null=True, validators=[MinValueValidator(1)])
    stop_at_accuracy = models.FloatField(
        null=True, validators=[MinValueValidator(0.01), MaxValueValidator(1.0)]
    )
    stop_without_gain = models.BooleanField(default=True)
    stop_is_hard = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        verbose_name_plural = "queue settings"
        constraints = [
            models.CheckConstraint(
                condition=Q(exploration_share__gte=0, exploration_share__lte=1),
                name="exploration_share_is_a_share",
            ),
            models.CheckConstraint(
                condition=Q(batch_size__gte=1, lease_minutes__gte=1, budget_value__gte=1),
                name="queue_numbers_are_positive",
            ),
            models.CheckConstraint(
                condition=~Q(budget_kind="percent") | Q(budget_value__lte=100),
                name="budget_percent_is_at_most_100",
            ),
        ]

    def __str__(self) -> str:
        return f"queue of project {self.project_id}"

    @property
    def lease_length(self) -> timedelta:
        """How long an image stays with a person who does nothing."""
        return timedelta(minutes=self.lease_minutes)

    @property
    def longest_hold(self) -> timedelta:
        """How long an image can stay with a person, however often they prolong the lease."""
        return self.lease_length * self.hold_leases

    def n_candidates(self, n_pool: int) -> int:
        """Return how many images of such a pool the rank budget allows."""
        if self.budget_kind == self.Budget.PERCENT:
            return -(-n_pool * self.budget_value // 100)
        if self.budget_kind == self.Budget.NUMBER:
            return min(self.budget_value, n_pool)
        return n_pool


class Segment(models.Model):
    """One immutable file of embeddings; registered only when it is complete on disk."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="segments"
    )
    backbone = models.CharField(max_length=60)
    name = models.CharField(max_length=80, unique=True)
    n_rows = models.PositiveIntegerField()
    dim = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


class Embedding(models.Model):
    """Where an image's embedding is, or why there is none."""

    image = models.OneToOneField(
        "labeling.Image", on_delete=models.CASCADE, related_name="embedding"
    )
    segment = models.ForeignKey(
        Segment, on_delete=models.CASCADE, null=True, related_name="embeddings"
    )
    row = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["segment", "row"],
                condition=Q(segment__isnull=False),
                name="one_image_per_embedding_row",
            ),
            models.CheckConstraint(
                condition=Q(segment__isnull=False) | ~Q(error=""),
                name="embedding_is_stored_or_says_why_not",
            ),
        ]

    def __str__(self) -> str:
        return f"embedding of image {self.image_id}"


class ModelVersion(models.Model):
    """A trained head, with its network if that was fine-tuned; saved before the row exists."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="model_versions"
    )
    number = models.PositiveIntegerField()
    backbone = models.CharField(max_length=60)
    training = models.CharField(
        max_length=10,
        choices=QueueSettings.Training.choices,
        default=QueueSettings.Training.HEAD,
    )
    class_ids = models.JSONField()
    folder = models.CharField(max_length=200, unique=True)
    sha256 = models.CharField(max_length=64)
    n_labels = models.PositiveIntegerField()
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_model_per_number")
        ]

    def __str__(self) -> str:
        return f"model {self.number}"


class ExternalModel(models.Model):
    """A model outside whose predictions a tool posts, known by its name."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="external_models"
    )
    name = models.CharField(max_length=80)
    # The class of each number of its predictions; only ever appended to.
    class_ids = models.JSONField()
    n_images = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"], name="one_external_model_of_each_name"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Prediction(models.Model):
    """What an external model says of an image; never mixed with what people say."""

    external_model = models.ForeignKey(
        ExternalModel, on_delete=models.CASCADE, related_name="predictions"
    )
    image = models.ForeignKey(
        "labeling.Image", on_delete=models.CASCADE, related_name="predictions"
    )
    # Little-endian float32 in the order of the model's class_ids; those appended since are 0.
    probabilities = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["external_model", "image"], name="one_prediction_per_image"
            )
        ]

    def __str__(self) -> str:
        return f"prediction of image {self.image_id}"


class Ranking(models.Model):
    """The immutable result of a round: which images to serve, in which order, and why."""

    class Kind(models.TextChoices):
        COVERAGE = "coverage", "Coverage start"
        HEURISTIC = "heuristic", "Heuristic"

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="rankings"
    )
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    heuristic = models.CharField(max_length=20)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="rankings"
    )
    external_model = models.CharField(
        max_length=80, blank=True, help_text="whose predictions were ranked, if not our model's"
    )
    n_pool = models.PositiveIntegerField()
    n_candidates = models.PositiveIntegerField()
    n_positions = models.PositiveIntegerField()
    n_begun = models.PositiveIntegerField(
        default=0, help_text="the first positions: images that some of the wanted people labelled"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_ranking_per_number")
        ]

    def __str__(self) -> str:
        return f"ranking {self.number}"


class RankedImage(models.Model):
    """One position of a ranking. Only the top positions are stored."""

    # No index of its own: those below begin with it and give the order as well, which PostgreSQL
    # must not be left to sort a whole ranking for.
    ranking = models.ForeignKey(
        Ranking, on_delete=models.CASCADE, related_name="positions", db_index=False
    )
    position = models.PositiveIntegerField(help_text="from 1")
    image = models.ForeignKey(
        "labeling.Image", on_delete=models.CASCADE, related_name="rank_positions"
    )
    score = models.FloatField(null=True, help_text="0 to 1, higher is asked sooner")
    explored = models.BooleanField(default=False)
    draw_probability = models.FloatField(null=True)
    top_classes = models.JSONField(default=list, help_text="[[class id, probability], …]")
    # Lets the claim skip the finished head of the ranking; never relied on for correctness.
    is_done = models.BooleanField(default=False)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["ranking", "position"], name="one_image_per_position"),
            models.UniqueConstraint(fields=["ranking", "image"], name="one_position_per_image"),
        ]
        indexes = [
            models.Index(
                fields=["ranking", "position"],
                condition=Q(is_done=False),
                name="ranked_to_do",
            )
        ]

    def __str__(self) -> str:
        return f"{self.position}. image {self.image_id}"


class QueueState(models.Model):
    """The pointers and counters of a project's queue, one row a project."""

    project = models.OneToOneField(
        "labeling.Project", on_delete=models.CASCADE, related_name="queue_state"
    )
    ranking = models.ForeignKey(Ranking, on_delete=models.SET_NULL, null=True, related_name="+")
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    labels_since_round = models.IntegerField(default=0)
    predictions_since_round = models.IntegerField(default=0)
    n_embedded = models.PositiveIntegerField(default=0)
    n_embedding_failures = models.PositiveIntegerField(default=0)
    preferred_heuristic = models.CharField(
        max_length=20, blank=True, help_text="what a bake-off found better for the heuristic auto"
    )

    def __str__(self) -> str:
        return f"queue state of project {self.project_id}"


class Round(models.Model):
    """One train → score → rank pass."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    class Trigger(models.TextChoices):
        BATCH = "batch", "Batch of labels complete"
        PERSON = "person", "Started by a person"
        IMAGES = "images", "New images embedded"
        PREDICTIONS = "predictions", "New predictions of your model"

    project = models.ForeignKey("labeling.Project", on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    job = models.OneToOneField(
        "jobs.Job", on_delete=models.SET_NULL, null=True, related_name="round"
    )
    trigger = models.CharField(max_length=12, choices=Trigger.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    settings_used = models.JSONField(default=dict)
    n_labels = models.PositiveIntegerField(default=0)
    n_pool = models.PositiveIntegerField(default=0)
    n_candidates = models.PositiveIntegerField(default=0)
    seconds = models.JSONField(default=dict, help_text="step -> seconds")
    metrics = models.JSONField(default=dict)
    overlap_top_100 = models.FloatField(null=True)
    note = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="rounds"
    )
    ranking = models.ForeignKey(
        Ranking, on_delete=models.SET_NULL, null=True, related_name="rounds"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_round_per_number"),
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(state__in=["queued", "running"]),
                name="one_round_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number} ({self.state})"


class Replay(models.Model):
    """A bake-off: heuristics replayed on the labels collected so far."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="replays"
    )
    job = models.OneToOneField(
        "jobs.Job", on_delete=models.SET_NULL, null=True, related_name="replay"
    )
    heuristics = models.JSONField()
    n_seeds = models.PositiveSmallIntegerField()
    batch_size = models.PositiveIntegerField()
    result = models.JSONField(default=dict)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"replay {self.pk} of project {self.project_id}"


class Lease(models.Model):
    """A work item: an image held by a person until a time.

    Leases live apart from ranks, so a lease that runs out returns the image to its old position.
    A lease is *submitted* as long as its label stands.
    """

    class State(models.TextChoices):
        LIVE = "live"
        SUBMITTED = "submitted"
        SKIPPED = "skipped"
        RELEASED = "released"
        EXPIRED = "expired"

    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    image = models.ForeignKey("labeling.Image", on_delete=models.CASCADE, related_name="leases")
    project = models.ForeignKey("labeling.Project", on_delete=models.CASCADE, related_name="leases")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="leases"
    )
    slot = models.PositiveSmallIntegerField(default=0)
    client = models.CharField(max_length=40, blank=True, help_text="browser tab or program")
    state = models.CharField(max_length=10, choices=State.choices, default=State.LIVE)
    served = models.JSONField(default=dict)
    granted_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["image", "slot"], condition=Q(state="live"), name="one_live_lease_per_slot"
            ),
            # Who has labelled an image does not get it again while the label stands.
            models.UniqueConstraint(
                fields=["image", "user"],
                condition=Q(state__in=["live", "submitted"]),
                name="an_image_once_for_each_person",
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "user"], condition=Q(state="live"), name="lease_live_of_user"
            ),
            models.Index(
                fields=["expires_at"], condition=Q(state="live"), name="lease_live_expiry"
            ),
        ]

    def __str__(self) -> str:
        return f"image {self.image_id} with {self.user_id} until {self.expires_at:%H:%M:%S}"


class Skip(models.Model):
    """A person passed an image on; it is not served to them again until they take it back."""

    class Reason(models.TextChoices):
        UNSURE = "unsure", "I cannot tell"
        BAD_IMAGE = "bad_image", "The image is broken or unusable"
        NO_CLASS_FITS = "no_class_fits", "No class fits"
        OTHER = "other", "Another reason"

    image = models.ForeignKey("labeling.Image", on_delete=models.CASCADE, related_name="skips")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=15, choices=Reason.choices, default=Reason.UNSURE)
    comment = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["image", "user"], name="one_skip_per_person_and_image")
        ]

    def __str__(self) -> str:
        return f"image {self.image_id} skipped by {self.user_id}"


class Submission(models.Model):
    """The answer given to an idempotency key: the same request again gets the same answer.

    The database refuses to change or delete a row.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=80)
    request_hash = models.CharField(max_length=64)
    annotation = models.ForeignKey(
        "labeling.Annotation", on_delete=models.PROTECT, null=True, related_name="submissions"
    )
    answer = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}"
