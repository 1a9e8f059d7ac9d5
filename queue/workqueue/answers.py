"""The shapes of what the API answers about the work queue."""

from annotator.api import contract as c
from annotator.api.contract import Answer
from annotator.jobs.models import Job
from annotator.labeling.answers import AnnotationOut, ImageOut
from annotator.labeling.models import Annotation
from workqueue.models import Lease, QueueSettings, Ranking, Round

# --- What is served -----------------------------------------------------------------------------


class ProbabilityOut(Answer):
    """How likely a model thinks a class is."""

    class_id = c.whole("the class")
    name = c.text("its name")
    probability = c.real("0 to 1")


class WhyOut(Answer):
    """Why an image was served."""

    ranking = c.whole("number of the ranking; null: not ranked", null=True)
    kind = c.one_of(
        ["heuristic", "coverage", "begun", "unranked", "direct"],
        "what put it where it is in the order; direct: it was labelled outside the queue",
    )
    heuristic = c.text("which heuristic; empty where none")
    heuristic_title = c.text("its name for people")
    score = c.real("0 to 1, higher is asked sooner; null where there is none", null=True)
    position = c.whole("place in the ranking, from 1", null=True)
    n_positions = c.whole("positions the ranking has", null=True)
    n_candidates = c.whole("images that were scored", null=True)
    n_pool = c.whole("images nobody had labelled then", null=True)
    model = c.whole("number of the model that scored it", null=True)
    model_created_at = c.moment("when that was trained", null=True)
    model_n_labels = c.whole("labels it was trained on", null=True)
    external_model = c.text("the model outside that scored it instead", null=True)
    top_classes = ProbabilityOut(many=True, help_text="likeliest first; hidden where explored")
    explored = c.yes_no("drawn at random, so that accuracy can be measured")
    draw_probability = c.real("how likely that draw was", null=True)
    sentence = c.text("all of this for people")


class SuggestionOut(Answer):
    """What the model would say."""

    class_ids = c.many(c.whole("a class"), "the classes")
    probability = c.real("how sure it is of the least sure of them, 0 to 1")


class LeaseOut(Answer):
    """An image to label, held for one person until a time."""

    token = c.token("names the lease in submit, heartbeat, release and skip")
    expires_at = c.moment("until when it is held; a heartbeat prolongs it")
    image = ImageOut(help_text="the image; without labels of others")
    why = WhyOut(help_text="why this one")
    suggestion = SuggestionOut(allow_null=True, help_text="what the model would say, if anything")


class OwnLeaseOut(LeaseOut):
    """One lease of the person, and what became of it."""

    state = c.one_of(Lease.State, "live, or how it ended")
    granted_at = c.moment("since when it was held")


class EmptyOut(Answer):
    """Why there is no image to label."""

    reason = c.one_of(
        ["no_images", "stopped", "leased", "skipped", "waiting", "done"], "for programs"
    )
    sentence = c.text("for people")
    next_free_at = c.moment("when an image of somebody else's comes back at the latest", null=True)
    n_leased = c.whole("open images that are held now")
    n_skipped_by_you = c.whole("open images that you skipped")


class RankingOut(Answer):
    """The order that is served now."""

    number = c.whole("from 1")
    kind = c.one_of(Ranking.Kind, "made by a heuristic, or the order before there is a model")
    heuristic = c.text("which heuristic")
    heuristic_title = c.text("its name for people")
    external_model = c.text("the model outside whose predictions were ranked", null=True)
    created_at = c.moment("when it was made")
    n_positions = c.whole("positions it has")
    n_candidates = c.whole("images that were scored")
    n_pool = c.whole("images nobody had labelled then")


class MeasuredOut(Answer):
    """A share with its 95 % interval."""

    value = c.real("0 to 1")
    low = c.real("lower end")
    high = c.real("upper end")
    n = c.whole("images it was measured on")


class ForecastOut(Answer):
    """A learning curve continued."""

    labels_for_next_point = c.whole("labels one more point of accuracy may need", null=True)
    low = c.whole("the tenth percentile of that", null=True)
    high = c.whole("the ninetieth percentile", null=True)
    gain = c.real("accuracy expected from a tenth more labels, 0 to 1")
    gain_high = c.real("the ninety-fifth percentile of that")


class ModelInBriefOut(Answer):
    """A trained model with its main figures."""

    number = c.whole("from 1")
    n_labels = c.whole("labels it was trained on")
    created_at = c.moment("when it was trained")
    accuracy = MeasuredOut(
        allow_null=True, help_text="on images drawn at random; null: too few to measure"
    )
    forecast = ForecastOut(allow_null=True, help_text="what more labels may bring, where known")


class RoundInBriefOut(Answer):
    """The newest round."""

    id = c.whole("the id")
    number = c.whole("from 1")
    state = c.one_of(Round.State, "how far it is")
    step_message = c.text("what it is doing")
    error = c.text("why it failed; empty otherwise")


class EmbeddingOut(Answer):
    """The embedding of new images."""

    state = c.one_of(Job.State, "how far it is")
    done = c.whole("images embedded")
    total = c.whole("images to embed")
    message = c.text("what it is doing")
    error = c.text("why it failed; empty otherwise")


class StopOut(Answer):
    """Whether labeling should stop."""

    should_stop = c.yes_no("a stopping rule of the project is fulfilled")
    is_hard = c.yes_no("the queue closes then")
    reasons = c.many(c.text("a sentence"), "one for each rule that is fulfilled")


class FailedJobOut(Answer):
    """Background work that has failed."""

    id = c.whole("the id, to try it again")
    kind = c.text("what it was")
    error = c.text("why it failed")


class StatusOut(Answer):
    """The state of a project's queue."""

    ranking = RankingOut(allow_null=True, help_text="the order served now; null: none yet")
    model = ModelInBriefOut(allow_null=True, help_text="the model in use; null: none yet")
    round = RoundInBriefOut(allow_null=True, help_text="the newest round; null: none yet")
    labels_since_round = c.whole("labels since the last round")
    labels_until_round = c.whole("labels until the next one")
    batch_size = c.whole("labels between two rounds")
    n_images = c.whole("images in the project")
    n_labelled = c.whole("images with as many labels as are wanted")
    n_labels = c.whole("labels that stand, of all people")
    annotators_per_image = c.whole("people wanted for each image")
    is_settling = c.yes_no("images still follow a change of that number")
    n_open = c.whole("images that lack labels")
    n_leased = c.whole("images people hold now")
    n_embedded = c.whole("images the model knows")
    n_embedding_failures = c.whole("images that could not be embedded")
    embedding = EmbeddingOut(allow_null=True, help_text="the newest embedding of images")
    stop = StopOut(help_text="whether labeling should stop")
    jobs_failed = FailedJobOut(many=True, help_text="work that waits to be tried again")


class PolledStatusOut(StatusOut):
    """The state of the queue, for polling."""

    n_held_by_you = c.whole("images you hold now")


class ClaimOut(Answer):
    """The images a person holds now."""

    leases = LeaseOut(many=True, help_text="the new leases, best first, and those that were kept")
    empty = EmptyOut(allow_null=True, help_text="why there are none; null where there are")
    status = StatusOut(help_text="the state of the queue")


class HoldingOut(Answer):
    """Who holds an image."""

    token = c.token("the lease")
    user_id = c.whole("who holds it")
    user = c.text("their name")
    image_id = c.whole("the image")
    file_name = c.text("its file")
    thumbnail_url = c.text("address of its small JPEG")
    granted_at = c.moment("since when")
    expires_at = c.moment("until when")


class CountOut(Answer):
    """How many."""

    n = c.whole("how many")


class HeartbeatOut(Answer):
    """A lease that was prolonged."""

    expires_at = c.moment("until when it is held now")


class SkippedOut(Answer):
    """An image that was passed on."""

    status = StatusOut(help_text="the state of the queue")


class UnskippedOut(CountOut):
    """Skips that were taken back."""

    lease = LeaseOut(required=False, help_text="the image, leased again, when one was asked for")
    status = StatusOut(required=False, help_text="the state of the queue, with the lease")


# --- Labels -------------------------------------------------------------------------------------


class SubmittedLabelOut(Answer):
    """The label that was kept."""

    id = c.whole("the id of the label")
    class_ids = c.many(c.whole("a class"), "what was said")
    action = c.one_of(Annotation.Action, "label, or edit when you had labelled the image before")
    outcome = c.one_of(Annotation.Outcome, "whether it counts, and if not why")
    created_at = c.moment("when it was kept")


class SubmittedOut(Answer):
    """The answer to a submit; the same again for the same key."""

    annotation = SubmittedLabelOut(help_text="the label")
    image_id = c.whole("the image")
    message = c.text("the outcome in words; empty when all is as usual")
    status = StatusOut(allow_null=True, help_text="the state of the queue; null: not yours to see")


class LabelOfManyOut(Answer):
    """What became of one label of many: the label, or why it was refused."""

    key = c.anything("the key that was sent with it")
    status = c.whole("the status this label would have had alone")
    annotation = SubmittedLabelOut(required=False, help_text="the label")
    image_id = c.maybe(c.whole("the image"))
    message = c.maybe(c.text("the outcome in words; empty when all is as usual"))
    code = c.maybe(c.text("why it was refused, for programs"))
    detail = c.maybe(c.text("the same for people"))
    errors = c.maybe(c.many(c.by_name(c.text("a part"), "one field"), "of its fields"))


class SubmittedManyOut(Answer):
    """The answer to many labels: one outcome each, in their order."""

    results = LabelOfManyOut(many=True, help_text="what became of each")
    status = StatusOut(allow_null=True, help_text="the state of the queue; null: not yours to see")


class UndoneOut(Answer):
    """A label that was taken back."""

    lease = LeaseOut(help_text="its image, held by you again")
    status = StatusOut(help_text="the state of the queue")


class MyAnnotationOut(AnnotationOut):
    """One of the person's own labels."""

    image = ImageOut(help_text="its image")


class KeptAnnotationOut(AnnotationOut):
    """A label that does not count."""

    file_name = c.text("the file of its image")
    classes = c.many(c.text("a name"), "the names of its classes")
    reason = c.text("why it does not count")


class AnnotationDetailOut(AnnotationOut):
    """One label, and what has become of it."""

    is_current = c.yes_no("whether it stands")
    replaced_by = c.whole("the label that replaced it", null=True)


class AnnotationRowOut(AnnotationOut):
    """One label of a project, or one that stood before."""

    is_current = c.yes_no("whether it stands")
    replaces = c.whole("the label it replaced", null=True)


class LabelledOut(Answer):
    """The label that was given outside the queue."""

    annotation = AnnotationOut(help_text="the label")
    message = c.text("the outcome in words; empty when all is as usual")


class EditedOut(Answer):
    """The label that replaces the former one."""

    annotation = AnnotationOut(help_text="the new label, with an id of its own")


class AnnotationChangeOut(AnnotationOut):
    """One entry of a label's history."""

    by = c.text("who made the change")
    is_current = c.yes_no("whether it stands")
    replaces = c.whole("the label it replaced", null=True)
    due_to_class = c.text("the class whose deletion took it back", null=True)


# --- The order ----------------------------------------------------------------------------------


class ChoiceOut(Answer):
    """One choice of a setting."""

    value = c.text("to send")
    title = c.text("its name for people")
    sentence = c.text("what it does")


class HeuristicChoiceOut(ChoiceOut):
    """One heuristic to choose."""

    group = c.text("where the page lists it")
    warning = c.text("when not to use it; empty otherwise")


class ChoicesOut(Answer):
    """What can be chosen, with words for people."""

    heuristic = HeuristicChoiceOut(many=True, help_text="heuristics")
    budget_kind = ChoiceOut(many=True, help_text="kinds of rank budget")
    training = ChoiceOut(many=True, help_text="what a round trains")
    head = ChoiceOut(many=True, help_text="classifiers on the embeddings")


class SettingsOut(Answer):
    """The settings of a project's queue, used from the next ranking on."""

    heuristic = c.one_of(QueueSettings.Heuristic, "what puts the images in order")
    budget_kind = c.one_of(QueueSettings.Budget, "how the rank budget is said")
    budget_value = c.whole("the percentage or number of images a round scores")
    batch_size = c.whole("labels between two rounds")
    exploration_share = c.real("the part of the queue drawn at random, 0 to 1")
    annotators_per_image = c.whole("people wanted for each image")
    lease_minutes = c.whole("how long an image is held without a heartbeat")
    hold_leases = c.whole("for so many times that, at most, one person holds an image")
    training = c.one_of(QueueSettings.Training, "the head alone, or the whole network")
    training_cost = c.text("how long a round will take, in words; empty for head")
    head = c.one_of(QueueSettings.Head, "the classifier on the embeddings")
    predictions_from = c.text(
        "the model outside that orders the queue; empty: the one trained here"
    )
    spread_duplicates = c.yes_no("images that look the same are not asked one after the other")
    balance_classes = c.yes_no("rare classes weigh more")
    stop_at_labels = c.whole("advise to stop at so many labels", null=True)
    stop_at_rounds = c.whole("… at so many rounds", null=True)
    stop_at_accuracy = c.real("… at this accuracy, 0 to 1", null=True)
    stop_without_gain = c.yes_no("… when more labels no longer help")
    stop_is_hard = c.yes_no("the queue closes when a rule is fulfilled")
    version = c.whole("rises with each change; the ETag")
    updated_at = c.moment("when they were last changed", null=True)
    updated_by = c.text("who did", null=True)
    choices = ChoicesOut(help_text="what can be chosen")


class SettingsChangeOut(Answer):
    """A change of the settings."""

    at = c.moment("when")
    by = c.text("who", null=True)
    changes = c.by_name(
        c.anything("the former and the new value"), "what, by the name of the setting"
    )


class ModelNumberOut(Answer):
    """Which model it was."""

    id = c.whole("the id")
    number = c.whole("from 1")


class PastRankingOut(RankingOut):
    """One of the rankings of a project."""

    model = ModelNumberOut(allow_null=True, help_text="what scored it, if a model of ours did")
    is_current = c.yes_no("whether it is served now")
    is_kept = c.yes_no("whether its positions can still be listed")


class PlaceOut(Answer):
    """One position of a ranking, without its image."""

    position = c.whole("from 1")
    score = c.real("0 to 1, higher is asked sooner; null where explored", null=True)
    begun = c.yes_no("some of the people wanted have labelled it")
    explored = c.yes_no("drawn at random")
    draw_probability = c.real("how likely that draw was", null=True)
    top_classes = ProbabilityOut(many=True, help_text="likeliest first; hidden where explored")


class PositionOut(PlaceOut):
    """One position of a ranking."""

    image = ImageOut(help_text="the image")


class PlaceInRankingOut(PlaceOut):
    """Where an image stands."""

    ranking = c.whole("number of the current ranking")


class SignedUrlsOut(Answer):
    """Addresses that open an image's files without signing in, for a while."""

    display = c.text("the JPEG for the screen")
    thumbnail = c.text("the small JPEG")
    original = c.text("the file as it was uploaded")


class ImageDetailOut(ImageOut):
    """One image, its labels, its place and addresses for other programs."""

    place = PlaceInRankingOut(
        allow_null=True, help_text="in the current ranking; null: none, or you are no reviewer"
    )
    urls = SignedUrlsOut(help_text="open without signing in, for a while")
    urls_expire_in = c.whole("seconds they work")


# --- Predictions of models outside --------------------------------------------------------------


class RejectedPredictionOut(Answer):
    """A prediction that was not stored."""

    pointer = c.text("where it stands in the body")
    code = c.text("why")
    image = c.maybe(c.whole("the image it names"))
    external_id = c.maybe(c.text("or the external id it names"))


class StoredPredictionsOut(Answer):
    """What became of posted predictions."""

    model = c.text("the name of the model")
    created = c.whole("images it said something of for the first time")
    updated = c.whole("images of which its former prediction was replaced")
    rejected = RejectedPredictionOut(many=True, help_text="those of images not in the project")


class ExternalModelOut(Answer):
    """A model outside whose predictions were posted."""

    id = c.whole("the id")
    name = c.text("the name it was posted under")
    class_ids = c.many(c.whole("a class"), "the classes it tells apart")
    n_images = c.whole("images it has said something of")
    orders_the_queue = c.yes_no("whether the queue settings name it")
    created_at = c.moment("when it was first posted")
    updated_at = c.moment("when it was last posted")


class PredictionOut(Answer):
    """What a model outside says of an image."""

    image_id = c.whole("the image")
    external_id = c.text("what whoever added the image calls it", null=True)
    model = c.text("the name of the model")
    probabilities = c.by_name(c.real("0 to 1"), "by the id of the class")


# --- Rounds, models, bake-offs ------------------------------------------------------------------


class RoundOut(Answer):
    """One train, score and rank pass."""

    id = c.whole("the id")
    number = c.whole("from 1")
    trigger = c.one_of(Round.Trigger, "why it was started")
    state = c.one_of(Round.State, "how far it is: poll until it is done or failed")
    n_labels = c.whole("images whose labels were learned from")
    n_pool = c.whole("images nobody had labelled")
    n_candidates = c.whole("images that were scored")
    seconds = c.by_name(c.real("seconds"), "how long each step took")
    metrics = c.by_name(c.anything("one figure"), "the figures of the model: accuracy, per_class …")
    overlap_top_100 = c.real("share of the first 100 that were among the first before", null=True)
    note = c.text("what people should know of it; mostly empty")
    error = c.text("why it failed; empty otherwise")
    settings_used = c.by_name(c.anything("a value"), "the queue settings it used")
    model_number = c.whole("the model it trained", null=True)
    ranking_number = c.whole("the ranking it made", null=True)
    created_at = c.moment("when it was asked for")
    started_at = c.moment("when it began", null=True)
    finished_at = c.moment("when it ended", null=True)


class ModelOut(ModelInBriefOut):
    """A trained model."""

    id = c.whole("the id")
    training = c.text("head, or fine_tune for the whole network")
    backbone = c.text("the network that embeds the images")
    class_ids = c.many(c.whole("a class"), "the classes it tells apart")
    sha256 = c.text("of its weights")
    metrics = c.by_name(c.anything("one figure"), "all its figures")
    is_in_use = c.yes_no("whether it suggests classes now")


class PromotedModelOut(ModelOut):
    """A former model that is in use again."""

    message = c.text("what that changes, in words")


class ReplayProgressOut(Answer):
    """How far a bake-off is."""

    done = c.whole("steps done")
    total = c.whole("steps in all")
    message = c.text("what it is doing")


class ReplayOut(Answer):
    """A bake-off: heuristics tried again on the labels there are."""

    id = c.whole("the id")
    heuristics = c.many(c.text("a heuristic"), "what is compared")
    n_seeds = c.whole("how often each is tried")
    state = c.one_of(Job.State, "how far it is: poll until it is done or failed")
    progress = ReplayProgressOut(help_text="how far it is, in numbers")
    error = c.text("why it failed; empty otherwise")
    result = c.anything("rows, one a heuristic, and a verdict in words; null until it is done")
    created_at = c.moment("when it was asked for")
    finished_at = c.moment("when it ended", null=True)


class RetriedJobOut(Answer):
    """Work that is tried again."""

    id = c.whole("the id")
    kind = c.text("what it is")


# --- Figures ------------------------------------------------------------------------------------


class LabelsOfDayOut(Answer):
    """The labels of one day."""

    day = c.day("the day, UTC")
    n = c.whole("labels given on it")
    total = c.whole("labels given until its end")


class CurvePointOut(Answer):
    """One point of the learning curve."""

    n_labels = c.whole("labels the model was trained on")
    accuracy = c.real("on images drawn at random, 0 to 1")
    low = c.real("lower end of the 95 % interval")
    high = c.real("upper end")
    n_measured = c.whole("images it was measured on")
    model = c.whole("number of the model")
    at = c.moment("when its round ended", null=True)


class ClassFiguresOut(Answer):
    """The figures of one class."""

    class_id = c.whole("the class")
    name = c.text("its name")
    colour = c.text("as #rrggbb")
    n_labels = c.whole("images that have it")
    n_measured = c.whole("images its recall was measured on")
    recall = c.real("share of its images the model finds; null: too few to tell", null=True)
    low = c.real("lower end of the 95 % interval", null=True)
    high = c.real("upper end", null=True)


class PersonFiguresOut(Answer):
    """How much one person labelled."""

    name = c.text("who")
    n_labels = c.whole("labels of theirs that stand")


class AnnotatorOut(Answer):
    """How one person labels."""

    user_id = c.whole("the person")
    name = c.text("their name")
    n_labels = c.whole("labels of theirs that stand")
    median_seconds = c.real("time on screen of half of their newest labels", null=True)
    agreement = c.real("share of others' labels that are equal; null below ten images", null=True)
    n_compared = c.whole("images others have labelled too")


class AgreementOut(Answer):
    """How far people say the same of the same images."""

    n_images = c.whole("images with several labels that were compared")
    n_differ = c.whole("those people disagree on")
    unanimous = c.real("share on which all agree; null below ten images", null=True)
    alpha = c.real("Krippendorff's alpha; null where it says nothing", null=True)
    is_newest = c.yes_no("only the newest images were compared")


class MetricsOut(Answer):
    """The figures of a project."""

    labels_over_time = LabelsOfDayOut(many=True, help_text="day by day")
    curve = CurvePointOut(many=True, help_text="the learning curve, round by round")
    measured_on = c.text("what the accuracy stands for, in words")
    per_class = ClassFiguresOut(many=True, help_text="class by class")
    per_person = PersonFiguresOut(many=True, help_text="who labelled most first")
    annotators = AnnotatorOut(many=True, required=False, help_text="for reviewers and leads only")
    agreement = AgreementOut(required=False, help_text="for leads only")
