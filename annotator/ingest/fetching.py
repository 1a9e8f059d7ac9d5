"""Images by web address: fetched by a worker through the guarded client, each with its result."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from django.conf import settings
from django.db import transaction

from annotator import outbound
from annotator.accounts.models import User
from annotator.ingest.models import Import
from annotator.ingest.services import (
    ImageResult,
    add_image,
    clean_file_name,
    finish_import,
    import_entries,
    working_folder,
)
from annotator.jobs import services as jobs
from annotator.jobs.running import JobRun
from annotator.labeling.models import Project

TOTAL_S = 60.0
IDLE_S = 10.0
AT_ONCE = 8
YIELDS_AFTER_S = 20.0
# A server that did not answer so often, and more often than it did, is not asked again.
FAILURES_PER_HOST = 5
NO_ANSWER = {"unreachable", "too-slow"}


@dataclass(frozen=True)
class Wanted:
    """One address of a list."""

    position: int
    file_name: str  # the address, as the report shows it
    external_id: str = ""


@transaction.atomic
def start_fetching(
    *, project: Project, user: User, urls: list[str], external_ids: list[str] | None = None
) -> Import:
    """Let a worker add the images at these addresses.

    Args:
        project: where to.
        user: who asks.
        urls: the addresses.
        external_ids: what the sender calls the image of each, empty for none.
    """
    import_run = Import.objects.create(
        project=project, urls=urls, external_ids=external_ids or [], n_entries=len(urls)
    )
    import_run.job = jobs.enqueue(
        kind="fetch",
        queue="ingest",
        project_id=project.pk,
        params={"import_id": import_run.pk},
        user_id=user.pk,
    )
    import_run.save(update_fields=["job"])
    return import_run


def run_fetch(run: JobRun) -> None:
    """Do a job of kind ``fetch``; a killed worker goes on where it was."""
    import_run = Import.objects.select_related("project").get(pk=run.params["import_id"])
    user = User.objects.get(pk=run.user_id or 0)
    ids = import_run.external_ids or [""] * len(import_run.urls)
    named = zip(import_run.urls, ids, strict=True)
    wanted = [Wanted(position, url, name) for position, (url, name) in enumerate(named)]
    patience = Patience()
    for position, code in import_run.entries.values_list("position", "code"):
        patience.note(import_run.urls[position], code)
    import_entries(
        run,
        import_run,
        wanted,
        partial(_fetch, import_run.project, user, patience),
        threads=AT_ONCE,
        doing="fetching pictures",
        yields_after_s=YIELDS_AFTER_S,
    )
    finish_import(run, import_run, actor_id=user.pk)


class Patience:
    """How often the servers of a list have answered, so that a dead one does not cost hours."""

    def __init__(self) -> None:
        self._answered: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()

    def note(self, url: str, code: str) -> None:
        """Remember how one address ended."""
        (self._silent if code in NO_ANSWER else self._answered)[_host(url)] += 1

    def is_over(self, url: str) -> bool:
        """Return whether its server is not worth asking again."""
        host = _host(url)
        silent = self._silent[host]
        return silent >= FAILURES_PER_HOST and silent > self._answered[host]


def _fetch(project: Project, user: User, patience: Patience, wanted: Wanted) -> ImageResult:
    url = wanted.file_name
    if patience.is_over(url):
        reason = f"Not asked: this server did not answer {FAILURES_PER_HOST} times."
        return ImageResult(name_of(url), "refused", "unreachable", reason)
    result = _download(project, user, wanted)
    patience.note(url, result.code)
    return result


def _download(project: Project, user: User, wanted: Wanted) -> ImageResult:
    url = wanted.file_name
    limits = outbound.Limits(TOTAL_S, IDLE_S, settings.MAX_IMAGE_BYTES)
    with working_folder() as folder:
        copied = folder / "download"
        try:
            with copied.open("wb") as target:
                outbound.download(url, target, limits=limits)
        except outbound.RefusedError as refusal:
            return ImageResult(name_of(url), "refused", refusal.code, refusal.reason)
        return add_image(
            project=project,
            file=copied,
            file_name=name_of(url),
            user=user,
            external_id=wanted.external_id,
        )


def name_of(url: str) -> str:
    """Return what an image at an address is called: the last part of its path."""
    path = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")[2].rstrip("/")
    return clean_file_name(unquote(path.rpartition("/")[2] or path))


def _host(url: str) -> str:
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].lower()
