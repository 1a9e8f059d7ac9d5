import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ml import calibration, embedding_store, evaluation, heads, selection, training
from ml.arrays import BadArrayError


def blobs(n, n_classes=3, dim=20, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n_classes, n)
    centres = np.eye(n_classes, dim) * 3
    return (centres[targets] + rng.normal(0, spread, (n, dim))).astype(np.float32), targets


@pytest.mark.parametrize(("n", "dim"), [(60, 200), (300, 20)])
def test_the_fit_is_the_optimum_a_peer_finds(n, dim):
    vectors, targets = blobs(n, dim=dim)

    head = training.fit_head(vectors, targets, n_classes=3)

    centred = (vectors - head.mean) * head.scale
    decay = training.HeadConfig().weight_decay
    peer = LogisticRegression(C=1 / (decay * n), tol=1e-8, max_iter=5000).fit(centred, targets)
    expected = peer.predict_proba(centred)
    assert np.abs(head.probabilities(vectors) - expected).max() < 0.01


def test_the_same_labels_give_the_same_head():
    vectors, targets = blobs(80)

    first = training.fit_head(vectors, targets, n_classes=3, seed=1)
    again = training.fit_head(vectors, targets, n_classes=3, seed=1)

    assert (first.weights == again.weights).all()


def test_more_labels_bring_more_accuracy_on_real_embeddings(shared_data):
    with np.load(shared_data / "fmnist_lite0_pca128.npz") as arrays:
        train, truth = arrays["xtr"].astype(np.float32), arrays["ytr"].astype(int)
        test, wanted = arrays["xte"].astype(np.float32), arrays["yte"].astype(int)

    reached = []
    for n in (20, 100, 500):
        head = training.fit_head(train[:n], truth[:n], n_classes=10)
        reached.append((head.logits(test).argmax(axis=1) == wanted).mean())

    assert reached[0] < reached[1] < reached[2]
    assert reached[2] > 0.75


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((10, 8)), np.ones((10, 8)), np.zeros((10, 4)), np.ones((3, 4))],
    ids=["zero", "identical", "zero and many", "identical and many"],
)
def test_embeddings_that_say_nothing_give_the_prior_and_no_nan(vectors):
    targets = np.arange(len(vectors)) % 2

    head = training.fit_head(vectors.astype(np.float32), targets, n_classes=3)

    probabilities = head.probabilities(vectors)
    assert np.isfinite(probabilities).all()
    assert probabilities[0, :2] == pytest.approx([0.5, 0.5], abs=0.2)
    assert probabilities[0, 2] < 0.05


def test_a_class_with_one_label_and_a_class_with_none_are_fine():
    vectors, targets = blobs(40, n_classes=2)
    targets[0] = 2

    head = training.fit_head(vectors, targets, n_classes=5)

    assert np.isfinite(head.probabilities(vectors)).all()


def test_a_thousand_classes_are_fine():
    vectors, _ = blobs(1200, dim=64)
    targets = np.arange(1200) % 1000

    head = training.fit_head(vectors, targets, n_classes=1000)

    assert head.probabilities(vectors[:5]).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-4)


@pytest.mark.parametrize("targets", [[], [1], [1, 1, 1]])
def test_fewer_than_two_classes_are_refused_with_a_sentence(targets):
    vectors = np.ones((len(targets), 4), dtype=np.float32)

    with pytest.raises(training.NotEnoughLabelsError, match="two classes"):
        training.fit_head(vectors, np.array(targets, dtype=int), n_classes=3)


def test_nan_in_an_embedding_is_refused_and_its_row_named():
    vectors, targets = blobs(10)
    vectors[4, 2] = np.nan

    with pytest.raises(BadArrayError) as refused:
        training.fit_head(vectors, targets, n_classes=3)

    assert refused.value.rows == [4]


def test_a_head_survives_storage_and_a_torn_one_is_refused(tmp_path):
    vectors, targets = blobs(60)
    head = training.fit_head(vectors, targets, n_classes=3)
    folder = tmp_path / "models" / "1"

    heads.save_head(head, folder, {"class_ids": [4, 5, 6]})

    loaded = heads.load_head(folder)
    assert loaded.probabilities(vectors) == pytest.approx(head.probabilities(vectors))
    assert json.loads((folder / "manifest.json").read_text())["class_ids"] == [4, 5, 6]
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(heads.CorruptModelError, match="checksum"):
        heads.load_head(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(heads.CorruptModelError):
        heads.load_head(folder)


def test_a_head_that_cannot_be_written_whole_leaves_nothing(tmp_path, monkeypatch):
    vectors, targets = blobs(60)
    head = training.fit_head(vectors, targets, n_classes=3)

    def full(path, content):
        if path.name == heads.MANIFEST:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(heads, "_write", full)

    with pytest.raises(OSError, match="No space"):
        heads.save_head(head, tmp_path / "1", {})

    assert list(tmp_path.iterdir()) == []


def test_no_measured_item_is_predicted_by_a_head_that_saw_it():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (200, 150)).astype(np.float32)
    targets = rng.integers(0, 2, 200)
    measured = np.arange(200) < 100

    logits = evaluation.out_of_fold(vectors, targets, measured, n_classes=2)
    seen = training.fit_head(vectors, targets, n_classes=2).logits(vectors[:100])

    # Labels are coin flips: whoever saw them is right, whoever did not is right half the time.
    assert (seen.argmax(axis=1) == targets[:100]).mean() > 0.95
    assert 0.3 < (logits.argmax(axis=1) == targets[:100]).mean() < 0.7


def test_wilsons_interval_is_the_published_one():
    # Newcombe (1998), table I: 81 of 263 and 15 of 148, method 3.
    assert evaluation.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert evaluation.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert evaluation.wilson_interval(0, 0) == (0.0, 1.0)
    assert evaluation.wilson_interval(0, 20)[0] == 0.0


def test_the_report_counts_what_is_right_per_class():
    logits = np.eye(3)[[0, 0, 1, 2, 2, 2]] * 5

    report = evaluation.accuracy_report(logits, np.array([0, 1, 1, 2, 2, 0]))

    assert report.accuracy == pytest.approx(4 / 6)
    assert [(entry.value, entry.n) for entry in report.per_class] == [(0.5, 2), (0.5, 2), (1.0, 2)]


def test_an_overconfident_head_gets_a_temperature_above_one():
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 1.5, (2000, 3))
    probabilities = heads.to_probabilities(true_logits, "one_class")
    truth = np.array([rng.choice(3, p=row) for row in probabilities])

    temperature = calibration.fit_temperature(true_logits * 3, truth)

    assert temperature == pytest.approx(3, rel=0.15)
    before = calibration.expected_calibration_error(true_logits * 3, truth)
    after = calibration.expected_calibration_error(true_logits * 3 / temperature, truth)
    assert after < before / 3


# --- Selection --------------------------------------------------------------------------------


@given(
    n=st.integers(1, 60),
    share=st.floats(0, 1),
    n_positions=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_exploration_takes_its_share_serves_nothing_twice_and_knows_its_odds(
    n, share, n_positions, seed
):
    rng = np.random.default_rng(seed)
    ranked, at_random = rng.permutation(n), rng.permutation(n)

    mixed = selection.mix_exploration(
        ranked, at_random, share=share, n_positions=n_positions, pool_size=n
    )

    size = len(mixed.order)
    assert size == min(n, n_positions)
    assert len(set(mixed.order.tolist())) == size
    assert abs(mixed.explored.sum() - share * size) <= 1
    assert (np.isnan(mixed.draw_probability) == ~mixed.explored).all()
    drawn = mixed.draw_probability[mixed.explored]
    assert ((drawn > 0) & (drawn <= 1)).all()
    exploited = mixed.order[~mixed.explored].tolist()
    place = {int(row): index for index, row in enumerate(ranked)}
    assert [place[row] for row in exploited] == sorted(place[row] for row in exploited)


def test_ties_follow_the_tie_order_and_nan_is_refused():
    scores = np.array([0.5, 0.9, 0.5, 0.5])

    order = selection.rank_candidates(scores, tie_order=np.array([3, 0, 1, 2]))

    assert order.tolist() == [1, 2, 3, 0]
    with pytest.raises(BadArrayError):
        selection.rank_candidates(np.array([np.nan, 1]), tie_order=np.arange(2))


# --- The embedding store ----------------------------------------------------------------------


def test_embeddings_come_back_in_the_order_asked(tmp_path):
    vectors = np.arange(60, dtype=np.float16).reshape(15, 4)
    first = embedding_store.write_segment(tmp_path, vectors[:10])
    second = embedding_store.write_segment(tmp_path, vectors[10:])
    places = embedding_store.Places.of(
        [(second.name, 0), (first.name, 9), (first.name, 1), (second.name, 4)]
    )

    found = embedding_store.gather(tmp_path, places)

    assert (found == vectors[[10, 9, 1, 14]]).all()
    assert (embedding_store.gather(tmp_path, places[np.array([3, 1])]) == vectors[[14, 9]]).all()


@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_torn_segment_is_noticed(tmp_path, harm):
    segment = embedding_store.write_segment(tmp_path, np.ones((50, 8)))
    path = tmp_path / segment.name
    embedding_store.verify_segment(tmp_path, segment)

    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[:-10])
    elif harm == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()

    with pytest.raises(embedding_store.TornSegmentError):
        embedding_store.verify_segment(tmp_path, segment)


def test_a_segment_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding_store.np, "save", full)

    with pytest.raises(OSError, match="No space"):
        embedding_store.write_segment(tmp_path, np.ones((5, 8)))

    assert list(tmp_path.iterdir()) == []


def test_an_embedding_that_is_not_finite_is_never_stored(tmp_path):
    with pytest.raises(BadArrayError):
        embedding_store.write_segment(tmp_path, np.array([[1.0, np.inf]]))
