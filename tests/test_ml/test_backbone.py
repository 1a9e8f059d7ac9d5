import time

import numpy as np
import pytest
from PIL import Image

from ml import backbones, efficientnet_lite, embeddings


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return backbones.load_backbone(
        backbones.DEFAULT_BACKBONE, cache_dir=tmp_path_factory.mktemp("backbones")
    )


def test_the_export_agrees_with_torch(backbone):
    pictures = np.random.default_rng(0).normal(0, 1, (3, 3, 224, 224)).astype(np.float32)
    network = efficientnet_lite.load_pretrained(efficientnet_lite.weights_file())
    in_torch = backbones.torch_embed(network, "cpu")(pictures)

    out = backbone.embed(pictures)

    assert backbone.runtime == "onnxruntime"
    assert out.shape == (3, 1280)
    assert np.abs(out - in_torch).max() < 1e-3


def test_a_torn_export_is_made_again(tmp_path):
    backbones.load_backbone(backbones.DEFAULT_BACKBONE, cache_dir=tmp_path)
    (export,) = tmp_path.glob("*.onnx")
    export.write_bytes(export.read_bytes()[:1000])

    again = backbones.load_backbone(backbones.DEFAULT_BACKBONE, cache_dir=tmp_path)

    assert again.embed(np.zeros((1, 3, 224, 224), np.float32)).shape == (1, 1280)


def test_a_file_that_cannot_be_read_stops_no_other(backbone, tmp_path):
    paths = []
    for index in range(5):
        path = tmp_path / f"{index}.jpg"
        Image.effect_noise((260, 300), 80).convert("RGB").save(path)
        paths.append(path)
    paths[1].write_bytes(b"no picture")
    paths[3].unlink()

    embedded = embeddings.embed_files(paths, backbone, batch_size=2)

    assert embedded.kept.tolist() == [0, 2, 4]
    assert sorted(embedded.failures) == [1, 3]
    assert embedded.vectors.shape == (3, 1280)
    assert embedded.vectors.dtype == np.float16


def test_who_watches_is_told_in_order_and_may_stop_the_rest(tmp_path):
    paths = [tmp_path / f"{index}.jpg" for index in range(40)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    seen, told = [], []
    spec = backbones.BackboneSpec("tiny", 4, 8, "lite", "1")

    def embed(batch):
        seen.append(len(batch))
        time.sleep(0.01)
        return np.ones((len(batch), 4), np.float32)

    def on_batch(n_done):
        told.append(n_done)
        if n_done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings.embed_files(
            paths, backbones.Backbone(spec, "none", embed), batch_size=2, on_batch=on_batch
        )

    assert told == [2, 4, 6]
    assert len(seen) < 10


def test_the_same_picture_gets_the_same_embedding_whatever_is_beside_it(backbone, tmp_path):
    path, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.linear_gradient("L").convert("RGB").save(path)
    Image.effect_noise((300, 300), 80).convert("RGB").save(other)

    alone = embeddings.embed_files([path], backbone).vectors[0]
    together = embeddings.embed_files([other, path], backbone).vectors[1]

    assert np.abs(alone.astype(float) - together.astype(float)).max() < 1e-2


def test_an_unknown_or_undownloadable_backbone_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(backbones.BackboneUnavailableError, match="choose of"):
        backbones.load_backbone("nonsense", cache_dir=tmp_path)

    def refuse(*_, **__):
        raise OSError("no route to host")

    from ml.torchvision_compat import torchvision

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refuse)
    with pytest.raises(backbones.BackboneUnavailableError, match="bundled backbone"):
        backbones.load_backbone("resnet50", cache_dir=tmp_path)
