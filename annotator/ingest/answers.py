"""The shapes of what the API answers about uploads and imports."""

from annotator.api import contract as c
from annotator.api.contract import Answer
from annotator.jobs.models import Job
from annotator.labeling.answers import ImageOut


class CreatedOut(ImageOut):
    """A file that is a new image."""

    index = c.whole("its place among the files of the request, from 0")


class DuplicateOut(CreatedOut):
    """A file whose picture the project has already."""

    detail = c.text("what that means for it, in words")


class RejectedOut(Answer):
    """A file that gave no image."""

    index = c.whole("its place among the files of the request, from 0")
    name = c.text("as it was sent")
    code = c.text("why, for programs")
    detail = c.text("why, for people")


class UploadResultsOut(Answer):
    """What became of each file of a request."""

    created = CreatedOut(many=True, help_text="the new images")
    duplicates = DuplicateOut(many=True, help_text="the images that were here already")
    rejected = RejectedOut(many=True, help_text="the files that gave none")


class KnownOut(Answer):
    """Which pictures a project has."""

    known = c.many(c.text("a sha-256 sum"), "those of the sums that are here already")


class ProgressOut(Answer):
    """How far background work is."""

    done = c.whole("steps done")
    total = c.whole("steps in all")


class ImportOut(Answer):
    """One zip, or one list of web addresses."""

    id = c.whole("the id")
    file_name = c.text("the zip, or how many addresses")
    state = c.one_of(Job.State, "of the work: poll until it is done, failed or cancelled")
    n_entries = c.whole("files in it")
    n_added = c.whole("images that are new")
    n_duplicates = c.whole("images that were here already")
    n_refused = c.whole("files that gave no image")
    progress = ProgressOut(help_text="how far it is")
    error = c.text("why it failed; empty otherwise")
    created_at = c.moment("when it was begun")


class RefusedOut(Answer):
    """A file that gave no image."""

    file_name = c.text("the file or address")
    code = c.text("why, for programs")
    reason = c.text("why, for people")


class ImportDetailOut(ImportOut):
    """One import with what was refused."""

    refused = RefusedOut(many=True, help_text="the first 200 that gave no image")
