"""The shapes of what the API answers about exports."""

from annotator.api import contract as c
from annotator.api.contract import Answer
from annotator.exports import records
from annotator.exports.models import Export
from annotator.jobs.models import Job


class ExportFiltersOut(Answer):
    """Which images are exported."""

    images = c.one_of(
        [records.WITH_LABELS, records.LABELLED, records.ALL],
        "with labels, with enough, or all",
    )
    class_ids = c.many(c.whole("a class"), "with one of these classes; none for any")
    chosen = c.one_of(
        [records.RANDOM, records.QUEUE],
        "drawn at random, or by the queue",
        null=True,
    )


class ExportProgressOut(Answer):
    """How far the work is."""

    done = c.whole("steps done")
    total = c.whole("steps in all")
    message = c.text("what it does now")


class ExportOut(Answer):
    """How far an export is, and what is in it once it is written."""

    id = c.whole("the id")
    format = c.one_of(Export.Format, "of the file")
    filters = ExportFiltersOut(help_text="which images")
    history = c.yes_no("with what was said before and stands no more")
    names = c.yes_no("with the names of people")
    pictures = c.text("originals, or renditions: the JPEGs for the screen")
    state = c.one_of(Job.State, "poll until it is done, failed or cancelled")
    progress = ExportProgressOut(help_text="how far it is")
    error = c.text("why it failed; empty otherwise")
    as_of = c.moment("the moment whose labels it has", null=True)
    n_images = c.whole("images in it", null=True)
    n_labels = c.whole("labels in it", null=True)
    n_random = c.whole("images in it that were drawn at random", null=True)
    n_of_class = c.anything("images by the name of their class")
    file_name = c.text("of the file", null=True)
    n_bytes = c.whole("size of the file", null=True)
    sha256 = c.text("of the file", null=True)
    download_url = c.text("address of the file, once it is there", null=True)
    created_by = c.text("who asked for it", null=True)
    created_at = c.moment("when")
    finished_at = c.moment("when it was written", null=True)
    expires_at = c.moment("when the file is deleted", null=True)
