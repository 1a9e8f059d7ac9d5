"""After a change of the overlap: the status of every labelled image follows, in short steps.

New labels are counted against the new overlap at once, and nobody is given an image that has
enough. What is left to do is to open what lacks labels now and to finish what has enough.
"""

import time
from collections.abc import Iterator, Sequence

from django.db import transaction

from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.jobs.running import JobRun
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Project
from workqueue.models import RankedImage
from workqueue.requests import state_of

KIND = "overlap"
# On SQLite nobody else writes during a step: it has to be short, and others have their turn then.
AT_ONCE = 100
PAUSE_S = 0.02
# A project with no more labels than this needs no worker.
FEW_LABELS = 500


class _ChangedAgainError(Exception):
    """The overlap was changed while the images followed."""


def follow_overlap(project: Project, *, user_id: int | None = None) -> None:
    """Let the images follow a change that is committed: now if they are few, else in a job.

    Not in the transaction of the change: that one holds the project, which is locked after images.
    """
    if project.n_labels <= FEW_LABELS:
        for some in _steps(_labelled_images(project.pk)):
            settle(project.pk, some)
        labeling.end_settling(
            project_id=project.pk, annotators_per_image=project.annotators_per_image
        )
    else:
        _ask_for_settling(project, user_id)


@transaction.atomic
def _ask_for_settling(project: Project, user_id: int | None) -> None:
    # A job that is about to end holds this row, and then sees the change or is over.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    under_way = Job.objects.filter(
        kind=KIND, project=project, state__in=[Job.State.QUEUED, Job.State.RUNNING]
    )
    if not under_way.exists():
        jobs.enqueue(kind=KIND, queue="ingest", project_id=project.pk, params={}, user_id=user_id)


def find_unsettled() -> None:
    """Go on where a process died between a change and what follows from it."""
    for project in Project.objects.filter(is_settling=True, deleted_at=None):
        newest = Job.objects.filter(kind=KIND, project=project).order_by("-pk").first()
        # One that has failed waits for a person, who sees it on the progress page.
        if newest is None or newest.state != Job.State.FAILED:
            follow_overlap(project)


def run_settling(run: JobRun) -> None:
    """Do a job of kind ``overlap``; when the overlap is changed meanwhile it starts again."""
    while not _settle_all(run):
        pass


def _settle_all(run: JobRun) -> bool:
    project = Project.objects.get(pk=run.project_id)
    image_ids = _labelled_images(project.pk)
    for number, some in enumerate(_steps(image_ids)):
        run.progress(
            number * AT_ONCE, len(image_ids), "counting labels against the new number of people"
        )
        with run.step():
            settle(project.pk, some)
        time.sleep(PAUSE_S)
    try:
        with run.commit():
            is_settled = labeling.end_settling(
                project_id=project.pk, annotators_per_image=project.annotators_per_image
            )
            if not is_settled:
                raise _ChangedAgainError
    except _ChangedAgainError:
        return False
    return True


def _steps(image_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (image_ids[at : at + AT_ONCE] for at in range(0, len(image_ids), AT_ONCE))


@transaction.atomic
def settle(project_id: int, image_ids: Sequence[int]) -> None:
    """Let some images follow their labels; in the ranking too they are open or done then."""
    opened, finished = labeling.settle_images(project_id=project_id, image_ids=image_ids)
    for changed, is_done in ((opened, False), (finished, True)):
        if changed:
            RankedImage.objects.filter(
                ranking=state_of(Project(pk=project_id)).ranking_id, image__in=changed
            ).update(is_done=is_done)


def _labelled_images(project_id: int) -> list[int]:
    """Return the images with labels; those labelled from now on need not follow any more."""
    standing = Annotation.objects.filter(image__project=project_id, is_current=True)
    return list(standing.order_by("image").values_list("image_id", flat=True).distinct())
