import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.arrays import BadArrayError
from ml.heads import LogisticHead
from ml.heuristics import HEURISTICS, ScoredBlock
from ml.heuristics.uncertainty import (
    entropy,
    for_several_classes,
    least_confidence,
    margin,
    population_variance,
    variance,
)

# Hasty's worked examples.
A = np.array([[0.5, 0.45, 0.05]])
B = np.array([[0.4, 0.3, 0.3]])
# One head's uncertainty: a table of probabilities in, one score per image out.
UNCERTAINTIES = [margin, least_confidence, entropy, variance]
BY_NAME = pytest.mark.parametrize("score", UNCERTAINTIES, ids=lambda function: function.__name__)


A_FEW = st.integers(2, 8)


def tables(n_classes=A_FEW):
    def build(shape_and_seed):
        n, k, seed = shape_and_seed
        return np.random.default_rng(seed).dirichlet(np.full(k, 0.5), n)

    return st.tuples(st.integers(1, 20), n_classes, st.integers(0, 10_000)).map(build)


@pytest.mark.parametrize(
    ("function", "of_a", "of_b"),
    [
        (margin, 0.95, 0.90),
        (least_confidence, 0.75, 0.90),
        # -sum p ln p: A 0.8557 nats, B 1.0889 nats, over ln 3.
        (entropy, 0.7789, 0.9912),
        # 1 - 9/2 * variance.
        (variance, 0.8175, 0.9900),
    ],
)
def test_the_worked_examples_come_out_as_computed_by_hand(function, of_a, of_b):
    assert function(A)[0] == pytest.approx(of_a, abs=1e-4)
    assert function(B)[0] == pytest.approx(of_b, abs=1e-4)


def test_hastys_variance_is_the_population_variance():
    assert population_variance(A)[0] == pytest.approx(0.04056, abs=1e-5)
    assert population_variance(B)[0] == pytest.approx(0.00222, abs=1e-5)


@BY_NAME
@given(table=tables())
def test_scores_lie_from_0_to_1_and_there_is_one_per_item(score, table):
    scores = score(table)

    assert scores.shape == (len(table),)
    assert ((scores >= 0) & (scores <= 1)).all()


@BY_NAME
@given(table=tables(), seed=st.integers(0, 100))
def test_reordering_the_items_reorders_the_scores(score, table, seed):
    order = np.random.default_rng(seed).permutation(len(table))

    scores = score(table)

    assert score(table[order]) == pytest.approx(scores[order])


@BY_NAME
@given(table=tables(), seed=st.integers(0, 100))
def test_renaming_the_classes_changes_nothing(score, table, seed):
    order = np.random.default_rng(seed).permutation(table.shape[1])

    renamed = score(table[:, order])

    assert renamed == pytest.approx(score(table), abs=1e-9)


@BY_NAME
def test_certainty_scores_0_and_no_clue_scores_1(score):
    for n_classes in (2, 3, 10, 1000):
        certain = np.eye(n_classes)[:1]
        clueless = np.full((1, n_classes), 1 / n_classes)

        assert score(certain)[0] == pytest.approx(0, abs=1e-6)
        assert score(clueless)[0] == pytest.approx(1, abs=1e-6)


@BY_NAME
@pytest.mark.parametrize(
    "bad",
    [
        np.array([[0.5, 0.6]]),
        np.array([[np.nan, 1.0]]),
        np.array([[-0.5, 1.5]]),
        np.array([0.5, 0.5]),
        np.array([[1.0]]),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(score, bad):
    with pytest.raises(BadArrayError):
        score(bad)


def test_a_refusal_names_the_row():
    table = np.full((5, 2), 0.5)
    table[3, 0] = np.nan

    with pytest.raises(BadArrayError) as refused:
        margin(table)

    assert refused.value.rows == [3]


@given(table=tables(n_classes=st.just(2)))
def test_with_two_classes_all_heuristics_rank_alike(table):
    rankings = [np.argsort(-np.round(score(table), 9), kind="stable") for score in UNCERTAINTIES]

    first = np.abs(table[:, 0] - 0.5)
    for order in rankings:
        assert np.all(np.diff(first[order]) > -1e-6)


@given(table=tables())
def test_variance_ranks_as_the_gini_impurity(table):
    gini = 1 - (table**2).sum(axis=1)

    k = table.shape[1]
    assert variance(table) == pytest.approx(gini * k / (k - 1), abs=1e-9)


def test_several_classes_are_scored_by_their_three_most_uncertain_labels():
    sure = np.array([[0.0, 1.0, 0.0, 1.0, 0.0]])
    torn = np.array([[0.5, 0.5, 0.5, 1.0, 0.0]])
    half = np.array([[0.5, 1.0, 0.0, 1.0, 0.0]])

    scores = for_several_classes(margin)(np.vstack([sure, torn, half]))

    assert scores == pytest.approx([0.0, 1.0, 1 / 3])


def test_the_score_of_a_registered_heuristic_is_that_of_its_function():
    rng = np.random.default_rng(0)
    head = LogisticHead(rng.normal(size=(4, 6)), rng.normal(size=4), np.zeros(6), 1.0)
    vectors = rng.normal(size=(20, 6)).astype(np.float16)
    block = ScoredBlock(lambda: vectors, np.arange(20), head)

    for function in UNCERTAINTIES:
        scored = HEURISTICS[function.__name__].score(block)
        assert scored == pytest.approx(function(block.probabilities))


def test_the_settings_page_offers_exactly_the_registered_heuristics():
    from workqueue.heuristics import HEURISTICS as OFFERED
    from workqueue.models import QueueSettings

    offered = {entry["value"] for entry in OFFERED}

    assert offered == set(HEURISTICS) | {"auto"}
    assert set(QueueSettings.Heuristic.values) == offered
