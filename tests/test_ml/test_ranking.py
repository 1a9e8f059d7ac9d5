"""One contract for every entry of the registry, tested through the ranking the queue uses."""

import threading
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import ranking
from ml.arrays import BadArrayError
from ml.heads import LogisticHead
from ml.heuristics import HEURISTICS
from ml.ranking import Candidates, LabelledView, Ranker, RankingConfig
from ml.training import fit_committee, fit_head

DIM = 8
EVERY = pytest.mark.parametrize("name", list(HEURISTICS))
SCORED = pytest.mark.parametrize("name", [n for n, h in HEURISTICS.items() if h.score])
SORTED = pytest.mark.parametrize(
    "name",
    [n for n, h in HEURISTICS.items() if h.needs in {"probabilities", "committee"}
     and not h.pick and not h.shuffles],
)  # fmt: skip
LOOKING = pytest.mark.parametrize(
    "name", [n for n, h in HEURISTICS.items() if h.needs != "nothing"]
)
BATCHES = pytest.mark.parametrize("name", [n for n, h in HEURISTICS.items() if h.pick])


@cache
def world(*, kind="one_class", n_classes=3, n=60, seed=0):
    """Return embeddings of a pool, a head trained on others, its committee and the labelled."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (n_classes, DIM))
    said = rng.integers(0, n_classes, 30)
    said[:n_classes] = np.arange(n_classes)
    seen = centres[said] + rng.normal(0, 1, (30, DIM))
    pool = centres[rng.integers(0, n_classes, n)] + rng.normal(0, 1, (n, DIM))
    targets = said if kind == "one_class" else (rng.random((30, n_classes)) < 0.5) * 1.0
    fitted = {"n_classes": n_classes, "kind": kind}
    head = fit_head(seen, targets, **fitted)
    members = fit_committee(seen, targets, seed=0, **fitted)
    counts = np.bincount(said, minlength=n_classes)
    return pool.astype(np.float16), head, members, LabelledView(seen, counts)


def rank(name, pool, head, members, labelled, *, n=None, seed=0, keys=None, **config):
    ranker = Ranker(RankingConfig(name, **{"batch_size": 5} | config), head, list(members), seed)
    n = len(pool) if n is None else n
    return ranker.rank(Candidates.of(pool, keys), labelled, n_positions=n)


@EVERY
@pytest.mark.parametrize("kind", ["one_class", "several_classes"])
@pytest.mark.parametrize("n_positions", [0, 1, 7, 60, 1_000])
def test_every_heuristic_orders_distinct_images_and_no_more_than_asked(name, kind, n_positions):
    everything = world(kind=kind)

    ranked = rank(name, *everything, n=n_positions)

    assert len(ranked.order) == len(set(ranked.order.tolist())) == min(n_positions, 60)
    assert set(ranked.order.tolist()) <= set(range(60))


@SCORED
@pytest.mark.parametrize("kind", ["one_class", "several_classes"])
def test_every_score_lies_from_0_to_1(name, kind):
    scores = rank(name, *world(kind=kind)).scores

    assert scores.shape == (60,)
    assert ((scores >= 0) & (scores <= 1)).all()


@EVERY
def test_the_same_seed_gives_the_same_order(name):
    everything = world()

    assert (rank(name, *everything).order == rank(name, *everything).order).all()


@SORTED
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50))
def test_higher_is_asked_sooner_and_the_order_of_storage_changes_nothing(name, seed):
    pool, head, members, labelled = world(seed=seed)
    moved = np.random.default_rng(seed).permutation(len(pool))

    ranked = rank(name, pool, head, members, labelled, spread_duplicates=False)
    again = rank(name, pool[moved], head, members, labelled, keys=moved, spread_duplicates=False)

    ordered = ranked.scores[ranked.order]
    assert (np.diff(ordered) <= 0).all()
    assert again.scores[np.argsort(moved)] == pytest.approx(ranked.scores, abs=1e-5)


def test_a_random_number_belongs_to_the_image_and_the_round():
    pool, head, members, labelled = world()
    keys = np.arange(60) * 7 + 3

    whole = rank("random", pool, head, members, labelled, keys=keys, seed=4)
    part = rank("random", pool[20:40], head, members, labelled, keys=keys[20:40], seed=4)
    other_round = rank("random", pool, head, members, labelled, keys=keys, seed=5)

    assert (part.scores == whole.scores[20:40]).all()
    assert abs(np.corrcoef(whole.scores, other_round.scores)[0, 1]) < 0.4


def test_random_numbers_are_spread_evenly_and_neighbours_have_nothing_in_common():
    from ml.heuristics.uncertainty import random

    numbers = random(np.arange(100_000), seed=1)

    assert np.histogram(numbers, bins=20, range=(0, 1))[0].std() < 150
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    assert 0 <= numbers.min() < numbers.max() < 1


def test_without_a_heuristic_the_given_order_stands():
    pool, _, _, labelled = world()
    keys = np.random.default_rng(0).permutation(60)

    assert (rank("none", pool, None, [], labelled, keys=keys).order == np.argsort(keys)).all()


@EVERY
def test_what_needs_a_head_says_so_without_one(name):
    pool, _, _, labelled = world()

    if HEURISTICS[name].needs in {"nothing", "embeddings"}:
        assert len(rank(name, pool, None, [], labelled).order) == 60
    else:
        with pytest.raises(ValueError, match="needs a trained head"):
            rank(name, pool, None, [], labelled)


# --- Bad input ----------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    "pool",
    [
        np.zeros((20, DIM), np.float16),
        np.full((20, DIM), 1.5, np.float16),
        np.repeat(np.eye(2, DIM, dtype=np.float16), 10, axis=0),
    ],
    ids=["all zero", "identical", "two groups of copies"],
)
def test_embeddings_that_tell_nothing_apart_still_give_a_whole_order(name, pool):
    _, head, members, labelled = world()

    ranked = rank(name, pool, head, members, labelled)

    assert sorted(ranked.order.tolist()) == list(range(20))


@EVERY
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_a_pool_smaller_than_the_batch_is_served_whole(name, n):
    pool, head, members, labelled = world()

    assert sorted(rank(name, pool[:n], head, members, labelled).order.tolist()) == list(range(n))


@LOOKING
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused_and_named(name, bad):
    pool, head, members, labelled = world()
    pool = pool.copy()
    pool[17, 3] = bad

    with pytest.raises(BadArrayError) as caught:
        rank(name, pool, head, members, labelled)

    assert caught.value.rows == [17]


@EVERY
def test_a_thousand_classes_are_fine(name):
    rng = np.random.default_rng(0)
    zeros = np.zeros(DIM, np.float32)
    head, *members = [
        LogisticHead(rng.normal(size=(1_000, DIM)).astype(np.float32), np.zeros(1_000, np.float32),
                     zeros, 1.0)
        for _ in range(4)
    ]  # fmt: skip
    pool = rng.normal(size=(50, DIM)).astype(np.float16)
    labelled = LabelledView(rng.normal(size=(20, DIM)), np.ones(1_000, dtype=np.int64))

    assert len(rank(name, pool, head, members, labelled).order) == 50


# --- Blocks, ties, duplicates, classes ----------------------------------------------------------


@EVERY
def test_how_the_pool_is_cut_into_blocks_changes_nothing(name, monkeypatch):
    everything = world()
    whole = rank(name, *everything)

    monkeypatch.setattr(ranking, "BLOCK_ROWS", 7)
    cut = rank(name, *everything)

    assert cut.scores == pytest.approx(whole.scores, abs=1e-6, nan_ok=True)
    assert len(set(cut.order[:20]) & set(whole.order[:20])) >= 18


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_cores_compute_at_the_same_time(two_cores, monkeypatch):
    pool, head, members, labelled = world()
    monkeypatch.setattr(ranking, "BLOCK_ROWS", len(pool) // 2)
    both_compute = threading.Barrier(2)

    class MeetingHead(LogisticHead):
        def logits(self, embeddings):
            # Breaks, and fails the ranking, where one core waits until the other has finished.
            both_compute.wait(timeout=10)
            return super().logits(embeddings)

    meeting = MeetingHead(head.weights, head.bias, head.mean, head.scale)
    rank("margin", pool, meeting, members, labelled, spread_duplicates=False)

    assert not both_compute.broken


def test_only_the_top_is_sorted_and_it_is_the_top_of_a_full_sort():
    rng = np.random.default_rng(3)
    scores = np.round(rng.random(5_000), 2)  # many ties
    ties = rng.permutation(5_000)

    top = ranking.rank_candidates(scores, tie_order=ties, n=100)

    assert (top == np.lexsort((ties, -scores))[:100]).all()


def test_near_duplicates_of_an_image_wait_until_after_the_batch():
    pool, head, members, labelled = world(n=40)
    first = rank("margin", pool, head, members, labelled, spread_duplicates=False).order[0]
    copies = np.vstack([pool, np.repeat(pool[first][None], 6, axis=0)])

    spread = rank("margin", copies, head, members, labelled).order
    plain = rank("margin", copies, head, members, labelled, spread_duplicates=False).order

    def alike(order):
        return sum(index == first or index >= 40 for index in order[:10].tolist())

    assert alike(plain) == 7
    assert alike(spread) == 1
    assert sorted(spread.tolist()) == list(range(46))


@BATCHES
def test_a_diverse_batch_takes_few_of_many_copies(name):
    pool, head, members, labelled = world(n=60)
    plain = rank("margin", pool, head, members, labelled, spread_duplicates=False).order
    copies = np.vstack([pool, np.repeat(pool[plain[0]][None], 30, axis=0)])

    batch = rank(name, copies, head, members, labelled, batch_size=10).order[:10]

    assert sum(index == plain[0] or index >= 60 for index in batch.tolist()) <= 4


def test_balancing_serves_images_of_the_rare_class_sooner():
    pool, head, members, labelled = world(n=200)
    counts = np.array([400, 400, 2])
    view = LabelledView(labelled.embeddings, counts)
    looks_rare = head.probabilities(pool).argmax(axis=1) == 2

    plain = rank("margin", pool, head, members, view, spread_duplicates=False)
    balanced = rank(
        "margin", pool, head, members, view, spread_duplicates=False, balance_classes=True
    )

    assert looks_rare[balanced.order[:20]].mean() > looks_rare[plain.order[:20]].mean()


def test_top_classes_come_likeliest_first_with_their_probabilities():
    pool, head, _, _ = world()

    (found,) = ranking.top_classes(head, pool[:1], 2)

    table = head.probabilities(pool[:1])[0]
    assert [index for index, _ in found] == np.argsort(-table)[:2].tolist()
    assert [share for _, share in found] == pytest.approx(sorted(table)[::-1][:2], abs=1e-4)
