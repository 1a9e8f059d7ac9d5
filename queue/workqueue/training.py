"""How a round learns: the head alone on stored embeddings, or the whole network."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings

from annotator.jobs.running import JobRun
from annotator.jobs.services import JobFailedError
from workqueue import learning
from workqueue.models import QueueSettings, Round
from workqueue.requests import state_of

# Shares of a job's time limit: a fine-tuned round ends by itself before it would be killed.
TRAIN_WITHIN, EMBED_WITHIN = 0.5, 0.8


class Stopwatch:
    """Seconds spent in each step of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to the step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)


@dataclass(frozen=True)
class Learned:
    """What a round has learned from the labels.

    Attributes:
        trained: the head, or None before there are labels of two classes.
        labelled: the labels, with the embeddings the head speaks of.
        reembedded: the candidates likewise, when the network was fine-tuned.
        note: what the progress page says of it.
    """

    trained: learning.TrainedHead | None
    labelled: learning.LabelledSet
    reembedded: learning.Reembedded | None = None
    note: str = ""


def learn(
    run: JobRun,
    labelled: learning.LabelledSet,
    pool: learning.Pool,
    config: QueueSettings,
    round_: Round,
    watch: Stopwatch,
) -> Learned:
    """Train the model of a round, as the project wants it.

    Args:
        run: the job, for its progress.
        labelled: the labels.
        pool: the open images.
        config: the project's queue settings.
        round_: the round; its id is the seed.
        watch: takes the seconds of each part.

    Raises:
        JobFailedError: fine-tuning failed in a way that another attempt would repeat.
    """
    try:
        if config.training == QueueSettings.Training.FINE_TUNE:
            return _fine_tune(run, labelled, pool, config, round_, watch)
        with watch.step("train"):
            former = state_of(round_.project).model_version
            start = learning.former_head(former, labelled.class_ids)
            trained = learning.train(labelled, config, seed=round_.pk, start_from=start)
            return Learned(trained, labelled)
    except learning.NotEnoughLabelsError as error:
        return Learned(None, labelled, note=f"No model yet: {error}"[:300])
    except learning.FineTuningError as error:
        # Another attempt would do the same for as long.
        raise JobFailedError(str(error)) from error


def _fine_tune(
    run: JobRun,
    labelled: learning.LabelledSet,
    pool: learning.Pool,
    config: QueueSettings,
    round_: Round,
    watch: Stopwatch,
) -> Learned:
    """Fine-tune the network and embed with it the labelled images and the candidates."""
    started, limit = time.monotonic(), settings.CELERY_TASK_TIME_LIMIT
    report_step = _reporter(run, "training the network, step", until=started + limit * TRAIN_WITHIN)

    def on_step(done: int, total: int) -> None:
        if not report_step(done, total) and done < total:
            raise learning.FineTuningError(
                f"Fine-tuning did not end within {limit * TRAIN_WITHIN / 60:.0f} minutes. Train "
                "the head only, or give the worker a GPU or a longer time limit."
            )

    until = started + limit * EMBED_WITHIN
    with watch.step("fine_tune"):
        network = learning.fine_tune(labelled, config, seed=round_.pk, on_step=on_step)
    with watch.step("embed_labelled"):
        backbone = learning.embedder(
            network.tuned.network, n_images=len(labelled) + config.n_candidates(len(pool))
        )
        report = _reporter(run, "embedding labelled images anew:", until=until)
        labelled, trained = learning.embed_labelled(
            labelled, network, backbone, config, seed=round_.pk, go_on=report
        )
    with watch.step("embed_candidates"):
        report = _reporter(run, "embedding candidates anew:", until=until)
        reembedded = learning.embed_candidates(pool, config, backbone, seed=round_.pk, go_on=report)
    return Learned(trained, labelled, reembedded, _left_out(reembedded))


def _reporter(run: JobRun, message: str, *, until: float) -> Callable[[int, int], bool]:
    """Return what shows how far a part is and says whether there is time to go on."""

    def report(done: int, total: int) -> bool:
        run.progress(done, total, f"{message} {done:,} of {total:,}")
        return time.monotonic() < until

    return report


def _left_out(reembedded: learning.Reembedded) -> str:
    n, n_allowed = len(reembedded.rows), reembedded.n_allowed
    if n == n_allowed:
        return ""
    return (
        f"Of {n_allowed:,} images the rank budget allows {n:,} were embedded anew: the time was up "
        "or a file cannot be read. The others follow in random order."
    )
