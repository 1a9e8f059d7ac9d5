"""Batches and committees against values computed by hand."""

import numpy as np
import pytest

from ml.arrays import BadArrayError
from ml.clustering import by_typicality, k_means, nearest_points, principal_projection
from ml.heuristics.batch import (
    Shortlist,
    badge,
    cluster_margin,
    diverse_margin,
    k_center,
    take_turns,
    typiclust,
)
from ml.heuristics.committee import bald, for_several_classes, variation_ratio
from ml.ranking import _drawn_by_power
from ml.selection import class_weights, defer_near_duplicates

NOTHING = np.empty((0, 2), np.float32)


def shortlist(points, scores=None, probabilities=None, labelled=NOTHING):
    points = np.asarray(points, dtype=np.float32)
    scores = np.ones(len(points)) if scores is None else np.asarray(scores, dtype=np.float64)
    return Shortlist(points, scores, probabilities, np.asarray(labelled, dtype=np.float32))


def rng():
    return np.random.default_rng(0)


# --- Committees ---------------------------------------------------------------------------------

# Four members, two images, three classes: votes A A A B on the first, A B C C on the second.
SURE = {"A": [0.8, 0.1, 0.1], "B": [0.1, 0.8, 0.1], "C": [0.1, 0.1, 0.8]}
MEMBERS = np.array([[SURE[a], SURE[b]] for a, b in zip("AAAB", "ABCC", strict=True)])


def test_variation_ratio_by_hand():
    # Against the favourite: 1 of 4 and 2 of 4; the widest split of 4 votes over 3 classes is 2.
    assert variation_ratio(MEMBERS) == pytest.approx([0.5, 1.0])


def test_bald_by_hand():
    # Mean of the first image (0.625, 0.275, 0.1): 0.8790 nats; each member: 0.6390 nats.
    # Mean of the second (0.275, 0.275, 0.45): 1.0693 nats. Over ln 3.
    assert bald(MEMBERS) == pytest.approx([0.2184, 0.3917], abs=1e-3)


def test_members_that_agree_score_0_however_unsure_they_are():
    alike = np.repeat(np.full((1, 2, 4), 0.25), 5, axis=0)

    assert bald(alike) == pytest.approx([0, 0])
    assert variation_ratio(alike) == pytest.approx([0, 0])


@pytest.mark.parametrize("name", ["bald", "variation_ratio"])
def test_a_committee_of_several_classes_disputes_label_by_label(name):
    agreed = np.repeat(np.array([[[0.9, 0.1, 0.9]]]), 4, axis=0)
    disputed = np.array([[[0.99, 0.01, 0.99]], [[0.01, 0.99, 0.01]]] * 2)

    scores = for_several_classes(np.concatenate([agreed, disputed], axis=1), name)

    assert scores[0] == pytest.approx(0)
    assert scores[1] > 0.8


@pytest.mark.parametrize("function", [bald, variation_ratio])
@pytest.mark.parametrize("bad", [MEMBERS[:1], MEMBERS[0], MEMBERS * 2])
def test_what_is_no_committee_is_refused(function, bad):
    with pytest.raises(BadArrayError):
        function(bad)


# --- Batches ------------------------------------------------------------------------------------


def test_k_center_takes_the_farthest_again_and_again():
    line = [[0, 0], [1, 0], [4, 0], [10, 0], [10.5, 0]]

    picked = k_center(shortlist(line, labelled=[[0, 0]]), 3, rng())

    # From 0: 10.5 is farthest; then 4 (4 from 0, 6.5 from 10.5); then 1.
    assert picked.tolist() == [4, 2, 1]


def test_badge_starts_at_the_longest_gradient_and_its_distances_are_those_of_the_outer_products():
    generator = np.random.default_rng(5)
    points = generator.normal(size=(30, 4)).astype(np.float32)
    table = generator.dirichlet(np.ones(3), 30)
    residual = table - np.eye(3)[table.argmax(axis=1)]
    gradients = (residual[:, :, None] * points[:, None, :]).reshape(30, -1)

    picked = badge(shortlist(points, probabilities=table), 6, rng())

    # The same draws on the written-out gradients.
    expected = [int((gradients**2).sum(axis=1).argmax())]
    draws = rng()
    while len(expected) < 6:
        apart = ((gradients[:, None] - gradients[expected][None]) ** 2).sum(axis=2).min(axis=1)
        apart[expected] = 0
        cumulated = np.cumsum(apart)
        expected.append(int(np.searchsorted(cumulated, draws.random() * cumulated[-1], "right")))
    assert picked.tolist() == expected


def test_diverse_margin_takes_one_of_each_group_the_most_uncertain_first():
    groups = np.array([[0, 0], [0.1, 0], [9, 0], [9.1, 0], [0, 9], [0, 9.1]])
    scores = [0.5, 0.5, 0.9, 0.9, 0.7, 0.7]

    picked = diverse_margin(shortlist(groups, scores), 3, rng())

    assert [index // 2 for index in picked.tolist()] == [1, 2, 0]


def test_cluster_margin_takes_turns_the_smallest_cluster_first():
    points = np.array([[0, 0]] * 5 + [[50, 0]] * 2, dtype=float)
    points += np.random.default_rng(0).normal(0, 0.01, points.shape)
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]

    picked = cluster_margin(shortlist(points, scores), 2, rng())

    assert picked.tolist() == [5, 0]


def test_typiclust_starts_with_the_typical_image_of_the_largest_region_without_a_label():
    generator = np.random.default_rng(1)
    large = generator.normal(0, 1, (60, 2))
    small = generator.normal([40, 0], 1, (20, 2))
    known = generator.normal([0, 40], 1, (40, 2))
    points = np.vstack([large, small, known])

    picked = typiclust(shortlist(points, labelled=known[:1]), 2, rng())

    # Three clusters (one label, two to pick): the one with the label comes last.
    assert picked[0] < 60 <= picked[1] < 80
    assert np.linalg.norm(points[picked[0]]) < 1.0


def test_the_most_typical_member_has_the_nearest_neighbours():
    points = np.array([[0.0], [1.0], [2.0], [3.0], [20.0]])

    # Mean distance to the four others: 0 -> 6.5, 1 -> 5.75, 2 -> 5.5, 3 -> 5.75, 20 -> 18.5.
    assert by_typicality(points, np.arange(5), rng())[[0, -1]].tolist() == [2, 4]


def test_turns_go_round_and_end_when_the_queues_do():
    queues = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])]

    assert take_turns(queues, 5).tolist() == [1, 4, 5, 2, 6]
    assert take_turns(queues, 99).tolist() == [1, 4, 5, 2, 6, 3]
    assert take_turns([], 3).tolist() == []


@pytest.mark.parametrize("weights", [None, np.ones(60)])
def test_k_means_finds_groups_that_lie_apart(weights):
    centres = np.array([[0, 0], [30, 0], [0, 30]])
    truth = np.repeat([0, 1, 2], 20)
    points = (centres[truth] + rng().normal(0, 1, (60, 2))).astype(np.float32)

    cluster_of, found = k_means(points, 3, rng(), weights=weights)

    assert len({tuple(row) for row in np.stack([cluster_of, truth], 1).tolist()}) == 3
    assert len(set(truth[nearest_points(points, found)].tolist())) == 3


def test_the_projection_keeps_the_distances_the_principal_axes_explain():
    generator = np.random.default_rng(2)
    flat = generator.normal(size=(300, 5)) @ generator.normal(size=(5, 200))

    shadow = principal_projection(flat.astype(np.float32), rng())

    assert shadow.shape == (300, 50)
    true = np.linalg.norm(flat[:100] - flat[100:200], axis=1)
    assert np.linalg.norm(shadow[:100] - shadow[100:200], axis=1) == pytest.approx(true, rel=1e-3)


def test_power_draws_follow_the_scores():
    scores = np.array([0.6, 0.3, 0.1])

    first = [int(_drawn_by_power(scores, seed)[0]) for seed in range(4_000)]

    assert np.bincount(first, minlength=3) / 4_000 == pytest.approx(scores, abs=0.03)


def test_class_weights_fall_with_the_root_of_the_count():
    assert class_weights(np.array([0, 3, 99])) == pytest.approx([1.0, 0.5, 0.1])


def test_images_that_are_nearly_alike_are_put_off_but_not_lost():
    points = np.array([[1, 0], [1, 0.01], [0, 1], [0.02, 1], [0, 0], [0, 0]], dtype=np.float32)

    assert defer_near_duplicates(points, n_first=4).tolist() == [0, 2, 4, 5, 1, 3]
    assert defer_near_duplicates(points, n_first=1).tolist() == [0, 1, 2, 3, 4, 5]
