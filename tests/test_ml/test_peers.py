"""Where another library computes the same thing, ours agrees with it on random inputs."""

import numpy as np
import pytest
from modAL.uncertainty import classifier_entropy, classifier_margin, classifier_uncertainty
from scipy.stats import ttest_1samp, wilcoxon
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import Badge, batch_bald, k_greedy_center, uncertainty_scores, variation_ratios
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from ml import calibration, evaluation
from ml.clustering import k_means
from ml.heuristics.batch import Shortlist, badge, k_center
from ml.heuristics.committee import bald, variation_ratio
from ml.heuristics.uncertainty import entropy, least_confidence, margin

SEEDS = pytest.mark.parametrize("seed", range(5))


def a_table(seed, n=200, k=6):
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.4), n)


class Says:
    """A classifier that says what it was given."""

    def predict_proba(self, table):
        return table


@SEEDS
def test_uncertainty_of_one_head(seed):
    table, k = a_table(seed), 6

    assert margin(table) == pytest.approx(1 - classifier_margin(Says(), table))
    assert entropy(table) * np.log(k) == pytest.approx(classifier_entropy(Says(), table))
    assert least_confidence(table) * (k - 1) / k == pytest.approx(
        classifier_uncertainty(Says(), table)
    )
    assert margin(table) == pytest.approx(uncertainty_scores(table, method="margin_sampling"))
    assert entropy(table) * np.log(k) == pytest.approx(uncertainty_scores(table, method="entropy"))


@SEEDS
def test_disagreement_of_a_committee(seed):
    members = np.stack([a_table(seed * 10 + index) for index in range(5)])
    votes = members.argmax(axis=2).T

    # Five votes over six classes can all differ: at most four fifths are against the favourite.
    assert variation_ratio(members) * 4 / 5 == pytest.approx(variation_ratios(votes))
    peer = batch_bald(members.copy(), batch_size=1)[0]
    assert bald(members) * np.log(6) == pytest.approx(peer, abs=1e-5)


@SEEDS
def test_k_center(seed):
    points = np.random.default_rng(seed).normal(size=(80, 5)).astype(np.float32)
    y = np.full(80, np.nan)
    y[:10] = 0

    peer, _ = k_greedy_center(points, y, batch_size=12)
    ours = k_center(
        Shortlist(points[10:], np.zeros(70), None, points[:10]), 12, np.random.default_rng(0)
    )

    assert (ours + 10).tolist() == list(peer)


@SEEDS
def test_the_first_pick_of_badge(seed):
    # Its later odds differ: the peer counts the origin as picked, the paper does not.
    generator = np.random.default_rng(seed)
    seen, y = generator.normal(size=(40, 4)), generator.integers(0, 3, 40)
    pool = generator.normal(size=(60, 4))
    peer = SklearnClassifier(LogisticRegression(), classes=[0, 1, 2]).fit(seen, y)
    table = peer.predict_proba(pool)

    (picked,) = Badge(random_state=0).query(
        np.vstack([seen, pool]), np.concatenate([y, np.full(60, np.nan)]), peer, fit_clf=False
    )

    shortlist = Shortlist(pool, margin(table), table, np.empty((0, 4)))
    assert badge(shortlist, 1, np.random.default_rng(0)).tolist() == [int(picked) - 40]


@SEEDS
def test_k_means_is_as_tight_as_the_peers(seed):
    generator = np.random.default_rng(seed)
    points = generator.normal(0, 4, (12, 6))[generator.integers(0, 12, 600)]
    points = (points + generator.normal(0, 1, points.shape)).astype(np.float32)

    cluster_of, centres = k_means(points, 12, np.random.default_rng(0))

    ours = float(((points - centres[cluster_of]) ** 2).sum())
    assert ours < 1.25 * KMeans(12, n_init=1, random_state=seed).fit(points).inertia_


@SEEDS
def test_statistics(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 4, (2, 200))
    assert evaluation.cohens_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))

    ours, theirs = generator.normal(0.3, 1, 10), generator.normal(0, 1, 10)
    interval = ttest_1samp(ours - theirs, 0).confidence_interval(0.95)
    found = evaluation.paired_difference(ours.tolist(), theirs.tolist())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-3)
    # Another test of the same question: not the same number, but never far away.
    p_value = evaluation.sign_flip_p_value(ours.tolist(), theirs.tolist())
    assert abs(p_value - wilcoxon(ours, theirs).pvalue) < 0.2


@SEEDS
def test_the_temperature_is_the_one_a_peer_finds(seed):
    # With two classes, scaling the difference of the logits is a regression without intercept.
    generator = np.random.default_rng(seed)
    gap = generator.normal(0, 3, 2_000)
    truth = (generator.random(2_000) < 1 / (1 + np.exp(-gap / 2))).astype(int)
    peer = LogisticRegression(C=np.inf, fit_intercept=False).fit(gap[:, None], truth)

    ours = calibration.fit_temperature(np.stack([np.zeros(2_000), gap], axis=1), truth)

    assert ours == pytest.approx(1 / peer.coef_[0, 0], rel=0.05)
