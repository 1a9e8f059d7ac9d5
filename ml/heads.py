"""Heads: small linear classifiers on embeddings, and how they are stored.

A stored head is two files, ``model.safetensors`` and ``manifest.json``, in a folder that appears at
once or not at all. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load, save

from ml.arrays import FloatArray

Kind = Literal["one_class", "several_classes"]
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
FORMAT = 1


class CorruptModelError(Exception):
    """A stored head is missing, torn or altered."""


@dataclass(frozen=True)
class LogisticHead:
    """A multinomial (or, for several classes, independent) logistic regression.

    Attributes:
        weights: shape (n_classes, dim).
        bias: shape (n_classes,).
        mean: shape (dim,), subtracted from an embedding first.
        scale: the centred embedding is multiplied by it.
        temperature: logits are divided by it before they become probabilities.
        kind: one class per image, or several.
    """

    weights: FloatArray
    bias: FloatArray
    mean: FloatArray
    scale: float
    temperature: float = 1.0
    kind: str = "one_class"

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return the logits before the temperature.

        Args:
            embeddings: shape (n_items, dim), float16 or float32.

        Returns:
            Shape (n_items, n_classes), float32.
        """
        # One product with folded weights: the embeddings are read once and never copied centred.
        weights, bias = self.folded()
        return np.asarray(embeddings, dtype=np.float32) @ weights.T + bias

    def folded(self) -> tuple[FloatArray, FloatArray]:
        """Return weights and bias that apply to raw embeddings."""
        weights = (self.weights * self.scale).astype(np.float32)
        return weights, (self.bias - weights @ self.mean).astype(np.float32)

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return calibrated class probabilities.

        Args:
            embeddings: shape (n_items, dim).

        Returns:
            Shape (n_items, n_classes), float32; rows sum to 1 when an image has one class.
        """
        return to_probabilities(self.logits(embeddings) / self.temperature, self.kind)


def to_probabilities(logits: FloatArray, kind: str) -> FloatArray:
    """Return softmax rows, or independent sigmoids for several classes."""
    if kind == "several_classes":
        return 0.5 * (1.0 + np.tanh(0.5 * logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def save_head(head: LogisticHead, folder: Path, manifest: dict[str, Any]) -> str:
    """Store a head so that ``folder`` is complete or absent, also after a power cut.

    Args:
        head: what to store.
        folder: must not exist yet.
        manifest: what else is to be known of it (classes, backbone, metrics, code version).

    Returns:
        The sha-256 of the weights file.
    """
    weights = save(
        {
            "weights": np.ascontiguousarray(head.weights, dtype=np.float32),
            "bias": np.ascontiguousarray(head.bias, dtype=np.float32),
            "mean": np.ascontiguousarray(head.mean, dtype=np.float32),
        }
    )
    sha256 = hashlib.sha256(weights).hexdigest()
    described = {
        **manifest,
        "format": FORMAT,
        "sha256": sha256,
        "head": "logistic",
        "kind": head.kind,
        "scale": float(head.scale),
        "temperature": float(head.temperature),
        "shape": list(head.weights.shape),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.parent / f".{uuid.uuid4().hex}"
    building.mkdir()
    try:
        _write(building / WEIGHTS, weights)
        _write(building / MANIFEST, json.dumps(described, indent=1).encode())
        _sync_folder(building)
        building.replace(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _sync_folder(folder.parent)
    return sha256


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_head(folder: Path) -> LogisticHead:
    """Load a stored head.

    Raises:
        CorruptModelError: a file is missing, or does not match the manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"the model in {folder.name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != manifest.get("sha256"):
        raise CorruptModelError(f"the weights in {folder.name} do not match their checksum")
    if manifest.get("format") != FORMAT:
        raise CorruptModelError(f"the model in {folder.name} has an unknown format")
    arrays = load(content)
    return LogisticHead(
        weights=arrays["weights"],
        bias=arrays["bias"],
        mean=arrays["mean"],
        scale=float(manifest["scale"]),
        temperature=float(manifest["temperature"]),
        kind=str(manifest["kind"]),
    )
