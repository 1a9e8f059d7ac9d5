"""The shapes of what the API answers about projects, classes, images, labels and people."""

from annotator.api import contract as c
from annotator.api.contract import Answer
from annotator.labeling.models import Annotation, Image, Project


class ClassOut(Answer):
    """One entry of the label set."""

    id = c.whole("the id, used in class_ids everywhere")
    name = c.text("its name")
    colour = c.text("as #rrggbb")
    hotkey = c.text("its key on the labeling page; empty for none")
    position = c.whole("its place in the order")


class DeletedClassOut(ClassOut):
    """A class that was deleted."""

    deleted_at = c.moment("when", null=True)


class RestoredClassOut(ClassOut):
    """A class that is offered again."""

    n_labels_recalled = c.whole("labels that count again; null while a job sees to it", null=True)
    in_background = c.yes_no("a job brings the labels back")


class ClassDeletedOut(Answer):
    """What the deletion of a class did."""

    n_images_reopened = c.whole(
        "images that went back to the queue; null while a job sees to it", null=True
    )
    in_background = c.yes_no("a job takes the labels back")


class ProjectOut(Answer):
    """A project with its classes and the asking person's role."""

    id = c.whole("the id")
    name = c.text("its name")
    kind = c.one_of(Project.Kind, "one class for each image, or several")
    instructions = c.text("what people read before they label, as Markdown")
    role = c.role("your role in it", null=True)
    n_images = c.whole("images in it")
    n_labelled = c.whole("images with as many labels as are wanted")
    n_labels = c.whole("labels that stand, of all people")
    annotators_per_image = c.whole("people wanted for each image")
    created_at = c.moment("when it was made")
    classes = ClassOut(many=True, help_text="the label set, in its order")
    url = c.text("its address in this API")


class ArchivedProjectOut(ProjectOut):
    """A project that is archived."""

    archived_at = c.moment("when")


class RestoredProjectOut(ProjectOut):
    """A project that its members see again."""

    n_labels_recalled = c.whole(
        "labels that came meanwhile and count now; null while a job sees to it", null=True
    )


class AnnotationOut(Answer):
    """What somebody said of an image."""

    id = c.whole("the id, which is its version too: an edit is a new label")
    image_id = c.whole("the image")
    external_id = c.text("what whoever added the image calls it", null=True)
    class_ids = c.many(c.whole("a class"), "the classes that were said; none is an answer too")
    action = c.one_of(Annotation.Action, "how it came about")
    outcome = c.one_of(Annotation.Outcome, "whether it counts, and if not why")
    source = c.one_of(Annotation.Source, "who or what said it")
    author_id = c.whole("the person or service")
    author = c.text("their name")
    served = c.by_name(
        c.anything("one figure"), "why the image was served: ranking, heuristic, score, position …"
    )
    seconds = c.real("time on screen", null=True)
    created_at = c.moment("when it was said")


class ImageOut(Answer):
    """An image with its addresses and what is said of it."""

    id = c.whole("the id")
    key = c.token("the unguessable name in the addresses of its files")
    external_id = c.text("what whoever added it calls it", null=True)
    file_name = c.text("as it was uploaded")
    width = c.whole("in pixels, upright")
    height = c.whole("in pixels, upright")
    n_bytes = c.whole("size of the original")
    format = c.text("file format of the original, such as jpg")
    status = c.one_of(
        [*Image.Status.values, Image.DELETED], "labelled: it has as many labels as are wanted"
    )
    note = c.text("what was found odd when it was read; mostly empty")
    created_at = c.moment("when it was added")
    display_url = c.text("address of the JPEG for the screen, at most 2048 px wide or high")
    thumbnail_url = c.text("address of the small JPEG, 256 px on its short side")
    original_url = c.text("address of the file as it was uploaded")
    annotation = AnnotationOut(
        allow_null=True, help_text="the earliest label that stands; null in answers about the queue"
    )
    annotations = AnnotationOut(many=True, help_text="the labels of everybody, earliest first")


class RestoredImageOut(Answer):
    """An image that is in the project again."""

    id = c.whole("the image")
    n_labels_recalled = c.whole("its labels that count again")


class MemberOut(Answer):
    """A person or a service in a project."""

    user_id = c.whole("the user")
    username = c.text("the name to sign in with")
    name = c.text("the name others see")
    is_service = c.yes_no("a program with a service token")
    role = c.role("the role here")
    since = c.moment("a member since")


class InvitationOut(Answer):
    """An invitation that can still be used."""

    id = c.whole("the id, with which it is revoked")
    role = c.role("the role whoever opens it gets")
    note = c.text("who it is for")
    uses_left = c.whole("how many people can still use it")
    expires_at = c.moment("when it ends")


class NewInvitationOut(InvitationOut):
    """An invitation that was just made."""

    url = c.text("the link to send, shown this once; null in a repeated answer", null=True)


class EventOut(Answer):
    """One thing that happened."""

    id = c.whole("the id; ids rise with time")
    kind = c.text("such as annotation.created or round.done")
    actor = c.whole("the user who did it; null: the system", null=True)
    actor_name = c.text("their name", null=True)
    payload = c.by_name(c.anything("one fact"), "what it was about, by kind")
    at = c.moment("when")


class EventsOut(Answer):
    """Some of the events, oldest first."""

    results = EventOut(many=True, help_text="the events after the id that was asked for")
    after = c.whole("send it as after to read on")
