"""Rankings in the order a test asks for, written by the code that writes the real ones."""

from datetime import timedelta

import numpy as np
from factories import now

from annotator.jobs.models import Job
from annotator.jobs.running import JobRun
from ml.embedding_store import Places
from ml.selection import Selection
from workqueue import learning, rankings, rounds
from workqueue.models import Ranking, Round
from workqueue.requests import settings_of, state_of


def rerank(project, image_ids) -> Ranking:
    """Write a ranking of these images in this order and flip to it, as a round does."""
    n = len(image_ids)
    seen = state_of(project)
    pool = learning.Pool(
        image_ids=np.array(image_ids, dtype=np.int64),
        random_keys=np.arange(n),
        places=Places((), np.zeros(n, dtype=np.int64), np.arange(n)),
    )
    ranked = learning.RankedPool(
        heuristic="margin",
        selection=Selection(np.arange(n), np.zeros(n, dtype=bool), np.full(n, np.nan)),
        scores={row: 1 - row / n for row in range(n)},
        top_classes={},
        n_candidates=n,
    )
    job = Job.objects.create(
        kind="round",
        queue="train",
        project=project,
        state=Job.State.RUNNING,
        lease_until=now() + timedelta(hours=1),
    )
    run = JobRun(job)
    started = now()
    try:
        ranking = rankings.write_ranking(
            run, settings_of(project), pool, ranked, class_ids=[], model=None
        )
        with run.commit():
            rounds._flip(project, ranking, None, seen)
            Round.objects.create(
                project=project,
                number=ranking.number,
                state=Round.State.DONE,
                trigger=Round.Trigger.PERSON,
                started_at=started,
                ranking=ranking,
            )
    finally:
        Job.objects.filter(pk=job.pk).update(state=Job.State.DONE, lease_until=None)
    return ranking
