import numpy as np
import pytest
import torch
from PIL import Image
from tiny_backbone import SPEC, tiny_network

from ml import backbones, calibration, embeddings, fine_tuning, heads, pictures, training
from ml.arrays import BadArrayError
from ml.fine_tuning import FineTuningConfig

CONFIG = FineTuningConfig(epochs=8, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes that lie, stand or lean, in random colours: no single colour tells them apart."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    targets = np.arange(48) % 3
    paths = []
    for index, target in enumerate(targets):
        phase = (down, across, across + down)[target] + rng.integers(0, 8)
        stripes = (np.sin(phase * 0.8) > 0)[..., None] * rng.integers(40, 200, 3)
        pixels = (stripes + rng.integers(0, 56, (64, 64, 3))).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths, targets


def embedded(network, paths):
    return embeddings.embed_files(paths, backbones.torch_backbone(SPEC, network, "cpu")).vectors


def tuned_on(photos, *, network=None, config=CONFIG, seed=0, n_classes=3, **more):
    paths, targets = photos
    network = network or tiny_network()
    return fine_tuning.fine_tune(
        network, SPEC, paths, embedded(network, paths), targets,
        n_classes=n_classes, seed=seed, config=config, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(photos):
    return tuned_on(photos)


def state_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def is_same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_network_and_another_seed_another(photos, tuned):
    again, other = tuned_on(photos), tuned_on(photos, seed=1)

    first = tuned
    assert is_same(first.network.state_dict(), again.network.state_dict())
    assert np.array_equal(first.head.weights, again.head.weights)
    assert first.losses == again.losses
    assert not is_same(first.network.state_dict(), other.network.state_dict())


def test_classes_the_frozen_features_confuse_are_told_apart_afterwards(photos, tuned):
    paths, targets = photos
    network = tiny_network()
    frozen = embedded(network, paths)
    head = training.fit_head(frozen, targets, n_classes=3)

    before = (head.logits(frozen).argmax(axis=1) == targets).mean()
    logits = tuned.head.logits(embedded(tuned.network, paths))
    assert before < 0.95
    assert (logits.argmax(axis=1) == targets).mean() > 0.98
    assert np.mean(tuned.losses[-6:]) < 0.7 * tuned.losses[0]


def test_it_starts_from_the_head_of_the_frozen_features(photos):
    paths, targets = photos
    network = tiny_network()
    frozen = embedded(network, paths)
    head = training.fit_head(frozen, targets, n_classes=3)

    tuned = tuned_on(photos, network=network, config=FineTuningConfig(epochs=1, learning_rate=1e-7))

    assert np.allclose(tuned.head.weights, head.weights, atol=1e-4)
    assert np.abs(embedded(tuned.network, paths) - frozen).max() < 1e-2


def test_the_given_network_and_its_batch_norm_statistics_stay_as_they_were(photos):
    network = tiny_network()
    before = state_of(network)

    tuned = tuned_on(photos, network=network)

    assert is_same(before, network.state_dict())
    for name, tensor in tuned.network.state_dict().items():
        if "running" in name:
            assert torch.equal(tensor, before[name]), name


def test_the_number_of_steps_has_an_end_and_each_is_told(photos):
    told = []

    tuned = tuned_on(
        photos,
        config=FineTuningConfig(epochs=100, max_steps=5, batch_size=8, flips=True, balanced=True),
        on_step=lambda done, total: told.append((done, total)),
    )

    assert told == [(step, 5) for step in range(1, 6)]
    assert len(tuned.losses) == 5


def test_several_classes_are_learned_also_with_a_class_nobody_has_used(photos):
    paths, classes = photos
    targets = np.zeros((len(paths), 4), dtype=np.float32)
    targets[np.arange(len(paths)), classes] = 1.0
    targets[::5, 0] = 1.0

    tuned = tuned_on((paths, targets), n_classes=4, kind="several_classes")

    probabilities = tuned.head.probabilities(embedded(tuned.network, paths))
    assert tuned.losses[-1] < tuned.losses[0]
    assert probabilities.shape == (48, 4)
    assert probabilities[:, 3].max() < 0.5


def test_a_class_without_labels_stays_unlikely_and_one_class_alone_is_refused(photos):
    paths, targets = photos

    tuned = tuned_on(photos, n_classes=5)

    probabilities = tuned.head.probabilities(embedded(tuned.network, paths))
    assert np.isfinite(probabilities).all()
    assert set(probabilities.argmax(axis=1)) <= {0, 1, 2}
    with pytest.raises(training.NotEnoughLabelsError):
        tuned_on((paths, np.zeros_like(targets)))


def test_pictures_that_cannot_be_learned_from_are_named_and_the_others_go_on(
    photos, tmp_path, monkeypatch
):
    paths, targets = list(photos[0]), photos[1]
    frozen = embedded(tiny_network(), paths)
    paths[3] = tmp_path / "missing.png"
    paths[7] = tmp_path / "torn.png"
    paths[7].write_bytes(b"no picture")
    seen = pictures.preprocess

    def preprocess(image, spec):
        pixels = seen(image, spec)
        return pixels * np.nan if image.filename.endswith("11.png") else pixels

    monkeypatch.setattr(pictures, "preprocess", preprocess)
    tuned = fine_tuning.fine_tune(
        tiny_network(), SPEC, paths, frozen, targets, n_classes=3, config=CONFIG
    )

    assert sorted(tuned.failures) == [3, 7, 11]
    assert "not finite" in tuned.failures[11]
    assert np.isfinite(tuned.losses).all()
    with pytest.raises(fine_tuning.FineTuningError, match="None of the 2"):
        fine_tuning.fine_tune(
            tiny_network(), SPEC, [paths[3], paths[7]], frozen[:2], targets[:2], n_classes=3
        )


def test_embeddings_that_are_not_finite_and_a_training_gone_astray_are_refused(photos):
    paths, targets = photos
    frozen = embedded(tiny_network(), paths)
    frozen[4] = np.nan

    with pytest.raises(BadArrayError, match="row 4"):
        fine_tuning.fine_tune(tiny_network(), SPEC, paths, frozen, targets, n_classes=3)
    with pytest.raises(fine_tuning.FineTuningError, match="astray"):
        tuned_on(photos, config=FineTuningConfig(learning_rate=1e30, clip_norm=1e30))


def test_a_saved_network_embeds_as_before_and_its_head_comes_back(photos, tuned, tmp_path):
    fine_tuning.save_fine_tuned(tuned.network, tuned.head, tmp_path / "1", {"number": 1})
    loaded = fine_tuning.load_fine_tuned(tmp_path / "1", tiny_network())

    vectors = embedded(loaded, photos[0])
    assert np.array_equal(vectors, embedded(tuned.network, photos[0]))
    head = heads.load_head(tmp_path / "1")
    assert np.array_equal(head.logits(vectors), tuned.head.logits(vectors))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]


def test_a_torn_missing_or_foreign_network_is_refused(tuned, tmp_path):
    folder = tmp_path / "1"
    fine_tuning.save_fine_tuned(tuned.network, tuned.head, folder, {})
    with pytest.raises(heads.CorruptModelError, match="another one"):
        fine_tuning.load_fine_tuned(folder, torch.nn.Linear(2, 2))
    file = folder / fine_tuning.NETWORK
    content = file.read_bytes()

    for torn in (content[:-4], content[:-1] + bytes([content[-1] ^ 1])):
        file.write_bytes(torn)
        with pytest.raises(heads.CorruptModelError, match="checksum"):
            fine_tuning.load_fine_tuned(folder, tiny_network())
    file.unlink()
    with pytest.raises(heads.CorruptModelError, match="cannot be read"):
        fine_tuning.load_fine_tuned(folder, tiny_network())


def test_a_head_saved_alone_has_no_network(tuned, tmp_path):
    heads.save_head(tuned.head, tmp_path / "1", {})

    with pytest.raises(heads.CorruptModelError):
        fine_tuning.load_fine_tuned(tmp_path / "1", tiny_network())


def test_the_temperature_of_an_item_never_comes_from_its_own_class():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    logits = np.eye(3)[truth] * 2 + rng.normal(0, 2, (60, 3))
    calibrated = calibration.cross_calibrated(logits, truth)
    changed = truth.copy()
    changed[:: calibration.FOLDS] = (changed[:: calibration.FOLDS] + 1) % 3

    again = calibration.cross_calibrated(logits, changed)

    assert np.array_equal(again[:: calibration.FOLDS], calibrated[:: calibration.FOLDS])
    assert not np.array_equal(again[1 :: calibration.FOLDS], calibrated[1 :: calibration.FOLDS])
    assert np.array_equal(calibrated.argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_of_the_registry_can_be_fine_tuned(name, tmp_path, monkeypatch):
    if name != backbones.DEFAULT_BACKBONE:
        from ml.torchvision_compat import torchvision

        build = torchvision.models.get_model
        monkeypatch.setattr(
            torchvision.models, "get_model", lambda wanted, weights: build(wanted, weights=None)
        )
    spec = backbones.BACKBONES[name]
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.effect_noise((230, 230), 80).convert("RGB").save(path)
    network = backbones.load_network(name)
    before = embeddings.embed_files(paths, backbones.torch_backbone(spec, network, "cpu")).vectors
    weights = {key: value.clone() for key, value in network.state_dict().items()}

    tuned = fine_tuning.fine_tune(
        network, spec, paths, before, np.array([0, 1]), n_classes=2,
        config=FineTuningConfig(epochs=1),
    )  # fmt: skip

    after = embeddings.embed_files(paths, backbones.torch_backbone(spec, tuned.network, "cpu"))
    assert after.vectors.shape == (2, spec.dim)
    # Weights, not embeddings: of an untrained network those may vanish.
    learned = tuned.network.state_dict()
    assert any(not torch.equal(learned[key], value) for key, value in weights.items())
