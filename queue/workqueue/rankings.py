"""Rankings as they are stored: a row a position, written before anything points to them."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection

from annotator.jobs.running import JobRun
from annotator.labeling.models import Project
from workqueue import learning
from workqueue.models import ModelVersion, QueueSettings, RankedImage, Ranking
from workqueue.requests import state_of

COLD_START = "typiclust"
# Short transactions: labels are written between them.
INSERT_AT_ONCE = 1000
# A claim passes over those the person has labelled: more would be felt.
BEGUN_FIRST = 1000
COLUMNS = [
    "ranking_id", "position", "image_id", "score", "explored", "draw_probability", "top_classes",
    "is_done",
]  # fmt: skip


def write_ranking(
    run: JobRun,
    config: QueueSettings,
    pool: learning.Pool,
    ranked: learning.RankedPool,
    *,
    class_ids: list[int],
    model: ModelVersion | None,
    begun: Sequence[int] = (),
    external_model: str = "",
) -> Ranking:
    """Store a ranking with all its positions.

    Images that some people have labelled and more are wanted for come first: they were the best
    ones once, and the model, which has learned from them, would put them last. They carry no guess
    of the model, which would be the first person's answer.

    Args:
        run: the job that writes; each transaction makes sure that it still may.
        config: the settings it was ranked with.
        pool: the images.
        ranked: their order.
        class_ids: the class of each output of the head.
        model: what scored them, if anything did.
        begun: images that were begun, in their order.
        external_model: whose predictions scored them instead.
    """
    first = list(begun[:BEGUN_FIRST])
    last = Ranking.objects.filter(project=config.project).order_by("-number").first()
    is_cold = ranked.heuristic == COLD_START and config.heuristic != COLD_START
    kind = Ranking.Kind.COVERAGE if is_cold else Ranking.Kind.HEURISTIC
    with run.step():
        ranking = Ranking.objects.create(
            project=config.project,
            number=last.number + 1 if last else 1,
            kind=kind,
            heuristic=Ranking.Kind.COVERAGE if is_cold else ranked.heuristic,
            model_version=model,
            external_model=external_model,
            n_pool=len(pool),
            n_candidates=ranked.n_candidates,
            n_positions=len(first) + len(ranked.selection.order),
            n_begun=len(first),
        )
    rows = [
        (ranking.pk, position, image_id, None, False, None, "[]", False)
        for position, image_id in enumerate(first, 1)
    ]
    rows += _rows(ranking, pool, ranked, class_ids)
    for start in range(0, len(rows), INSERT_AT_ONCE):
        with run.step():
            _insert(rows[start : start + INSERT_AT_ONCE])
    return ranking


def _rows(
    ranking: Ranking, pool: learning.Pool, ranked: learning.RankedPool, class_ids: list[int]
) -> Iterator[tuple[Any, ...]]:
    selection = ranked.selection
    for index, row in enumerate(selection.order.tolist()):
        position = ranking.n_begun + index + 1
        explored = bool(selection.explored[index])
        tops = [[class_ids[which], chance] for which, chance in ranked.top_classes.get(row, [])]
        draw = float(selection.draw_probability[index]) if explored else None
        score = ranked.scores.get(row)
        yield (
            ranking.pk, position, int(pool.image_ids[row]), score, explored, draw,
            json.dumps(tops), False,
        )  # fmt: skip


def _insert(rows: list[tuple[Any, ...]]) -> None:
    """Insert positions by SQL: ``bulk_create`` takes three times as long while people wait."""
    name = connection.ops.quote_name
    columns = ", ".join(name(column) for column in COLUMNS)
    values = ", ".join(["%s"] * len(COLUMNS))
    table = name(RankedImage._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({values})", rows)  # noqa: S608


def overlap_with_former(project: Project, pool: learning.Pool, ranking: Ranking) -> float | None:
    """Return which part of the served ranking's top 100 (as far as still open) is there again."""
    former = state_of(project).ranking
    if former is None:
        return None
    still_open = set(pool.image_ids.tolist())
    before = [pk for pk in _top(former) if pk in still_open]
    now = set(_top(ranking))
    return round(sum(pk in now for pk in before) / len(before), 4) if before else None


def _top(ranking: Ranking) -> list[int]:
    ranked = RankedImage.objects.filter(
        ranking=ranking, explored=False, position__gt=ranking.n_begun
    ).order_by("position")
    return list(ranked.values_list("image_id", flat=True)[:100])
