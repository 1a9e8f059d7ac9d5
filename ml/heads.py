"""Heads: small classifiers on embeddings, and how they are stored.

A stored head is two files, ``model.safetensors`` and ``manifest.json``, in a folder that appears at
once or not at all; what belongs to it (a fine-tuned network) lies beside it. Nothing is ever
unpickled.
"""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from safetensors.numpy import load, save

from ml.arrays import FloatArray

Kind = Literal["one_class", "several_classes"]
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
FORMAT = 2
# So many float32 rows of 1,280 numbers fit a core's cache.
CACHED_ROWS = 256


class CorruptModelError(Exception):
    """A stored head is missing, torn or altered."""


class Head(Protocol):
    """What every head can do.

    Attributes:
        kind: ``one_class`` or ``several_classes``.
        temperature: logits are divided by it before they become probabilities.
    """

    @property
    def kind(self) -> str: ...

    @property
    def temperature(self) -> float: ...

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return the logits before the temperature, (n_items, n_classes) float32."""
        ...

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return calibrated class probabilities, (n_items, n_classes) float32."""
        ...

    def calibrated(self, temperature: float) -> "Head":
        """Return the same head with another temperature."""
        ...

    def arrays(self) -> dict[str, FloatArray]:
        """Return what is stored of the head, by name."""
        ...


class _Calibrated:
    """What the heads share."""

    kind: str
    temperature: float

    def logits(self, embeddings: FloatArray) -> FloatArray:
        raise NotImplementedError

    def probabilities(self, embeddings: FloatArray) -> FloatArray:
        """Return calibrated class probabilities.

        Args:
            embeddings: shape (n_items, dim).

        Returns:
            Shape (n_items, n_classes), float32; rows sum to 1 when an image has one class.
        """
        return to_probabilities(self.logits(embeddings) / self.temperature, self.kind)

    def calibrated(self, temperature: float) -> Self:
        """Return the same head with another temperature."""
        return replace(self, temperature=temperature)  # type: ignore[type-var]


@dataclass(frozen=True)
class LogisticHead(_Calibrated):
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
        weights, bias = self._folded
        return affine(embeddings, weights, bias)

    @cached_property
    def _folded(self) -> tuple[FloatArray, FloatArray]:
        """Weights and bias that apply to raw embeddings."""
        weights = (self.weights * self.scale).astype(np.float32)
        return weights, (self.bias - weights @ self.mean).astype(np.float32)

    def arrays(self) -> dict[str, FloatArray]:
        """Return what is stored of the head, by name."""
        scale = np.array([self.scale], dtype=np.float64)
        return {"weights": self.weights, "bias": self.bias, "mean": self.mean, "scale": scale}

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray], temperature: float, kind: str) -> Self:
        """Return a head from what was stored of it."""
        scale = float(arrays["scale"][0])
        weights, bias, mean = arrays["weights"], arrays["bias"], arrays["mean"]
        return cls(weights, bias, mean, scale, temperature, kind)


@dataclass(frozen=True)
class MlpHead(_Calibrated):
    """One hidden layer of rectified units between the embedding and the logits.

    Attributes:
        hidden_weights: shape (n_hidden, dim), on centred and scaled embeddings.
        hidden_bias: shape (n_hidden,).
        weights: shape (n_classes, n_hidden).
        bias: shape (n_classes,).
        mean: shape (dim,), subtracted from an embedding first.
        scale: the centred embedding is multiplied by it.
        temperature: logits are divided by it before they become probabilities.
        kind: one class per image, or several.
    """

    hidden_weights: FloatArray
    hidden_bias: FloatArray
    weights: FloatArray
    bias: FloatArray
    mean: FloatArray
    scale: float
    temperature: float = 1.0
    kind: str = "one_class"

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return the logits before the temperature, (n_items, n_classes) float32."""
        first = LogisticHead(self.hidden_weights, self.hidden_bias, self.mean, self.scale)
        return affine(np.maximum(first.logits(embeddings), 0.0), self.weights, self.bias)

    def arrays(self) -> dict[str, FloatArray]:
        """Return what is stored of the head, by name."""
        names = ("hidden_weights", "hidden_bias", "weights", "bias", "mean")
        scale = np.array([self.scale], dtype=np.float64)
        return {name: getattr(self, name) for name in names} | {"scale": scale}

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray], temperature: float, kind: str) -> Self:
        """Return a head from what was stored of it."""
        rest = {name: value for name, value in arrays.items() if name != "scale"}
        scale = float(arrays["scale"][0])
        return cls(**rest, scale=scale, temperature=temperature, kind=kind)


@dataclass(frozen=True)
class EnsembleHead(_Calibrated):
    """Several logistic regressions, each fitted on its own draw of the labels.

    Attributes:
        members: the heads; their mean probability is the ensemble's.
        temperature: the mean's logits are divided by it.
        kind: one class per image, or several.
    """

    members: tuple[LogisticHead, ...]
    temperature: float = 1.0
    kind: str = "one_class"

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return the logits of the members' mean probability, (n_items, n_classes) float32."""
        mean = np.mean([member.probabilities(embeddings) for member in self.members], axis=0)
        safe = np.clip(mean, 1e-7, 1.0 - 1e-7)
        if self.kind == "several_classes":
            return (np.log(safe) - np.log1p(-safe)).astype(np.float32)
        return np.log(safe).astype(np.float32)

    def arrays(self) -> dict[str, FloatArray]:
        """Return what is stored of the head, by name."""
        return {
            f"{index}.{name}": array
            for index, member in enumerate(self.members)
            for name, array in member.arrays().items()
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray], temperature: float, kind: str) -> Self:
        """Return a head from what was stored of it."""
        parts: dict[int, dict[str, FloatArray]] = {}
        for key, array in arrays.items():
            index, name = key.split(".", 1)
            parts.setdefault(int(index), {})[name] = array
        members = [LogisticHead.from_arrays(parts[i], 1.0, kind) for i in sorted(parts)]
        return cls(tuple(members), temperature, kind)


HEADS: dict[str, type[LogisticHead] | type[MlpHead] | type[EnsembleHead]] = {
    "logistic": LogisticHead,
    "mlp": MlpHead,
    "ensemble": EnsembleHead,
}


def name_of(head: Head) -> str:
    """Return the name a head's class has in :data:`HEADS`."""
    return next(name for name, kind in HEADS.items() if isinstance(head, kind))


def affine(inputs: FloatArray, weights: FloatArray, bias: FloatArray) -> FloatArray:
    """Return ``inputs @ weights.T + bias`` in float32, stored column by column.

    A few rows at a time become float32 (torch does that five times as fast as numpy), so that the
    product finds them in the cache; and the product is taken the other way round, because with few
    outputs ``weights @ rows.T`` is about five times as fast as ``rows @ weights.T``.

    Args:
        inputs: shape (n, dim), float16 or float32.
        weights: shape (n_out, dim), float32.
        bias: shape (n_out,), float32.
    """
    rows = _read_only_tensor(inputs)
    factor, offset = torch.from_numpy(weights), torch.from_numpy(bias)[:, None]
    out = torch.empty((len(weights), len(rows)))
    cached = torch.empty((min(CACHED_ROWS, len(rows)), weights.shape[1]))
    for start in range(0, len(rows), CACHED_ROWS):
        some = rows[start : start + CACHED_ROWS]
        part = cached[: len(some)]
        part.copy_(some)
        out[:, start : start + len(some)] = torch.addmm(offset, factor, part.T)
    result: FloatArray = out.T.numpy()
    return result


def _read_only_tensor(array: FloatArray) -> torch.Tensor:
    with warnings.catch_warnings():
        # Mapped files are read-only, and nothing here writes.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


def to_probabilities(logits: FloatArray, kind: str) -> FloatArray:
    """Return softmax rows, or independent sigmoids for several classes."""
    if kind == "several_classes":
        return 0.5 * (1.0 + np.tanh(0.5 * logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def save_head(
    head: Head,
    folder: Path,
    manifest: dict[str, Any],
    *,
    beside: Mapping[str, bytes] | None = None,
) -> str:
    """Store a head so that ``folder`` is complete or absent, also after a power cut.

    Args:
        head: what to store.
        folder: must not exist yet.
        manifest: what else is to be known of it (classes, backbone, metrics, code version).
        beside: name -> content of files that belong to it; read back by :func:`read_beside`.

    Returns:
        The sha-256 of the weights file.
    """
    arrays = head.arrays()
    weights = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    sha256 = hashlib.sha256(weights).hexdigest()
    others = dict(beside or {})
    described = {
        **manifest,
        "format": FORMAT,
        "sha256": sha256,
        "beside": {name: hashlib.sha256(content).hexdigest() for name, content in others.items()},
        "head": name_of(head),
        "kind": head.kind,
        "temperature": float(head.temperature),
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.parent / f".{uuid.uuid4().hex}"
    building.mkdir()
    try:
        for name, content in {WEIGHTS: weights, **others}.items():
            _write(building / name, content)
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


def load_head(folder: Path) -> Head:
    """Load a stored head.

    Raises:
        CorruptModelError: a file is missing, or does not match the manifest.
    """
    manifest = _manifest(folder)
    content = _checked(folder, WEIGHTS, manifest.get("sha256"))
    if manifest.get("format") != FORMAT:
        raise CorruptModelError(f"the model in {folder.name} has an unknown format")
    head = HEADS.get(str(manifest.get("head")))
    if head is None:
        raise CorruptModelError(f"the model in {folder.name} is of an unknown sort")
    return head.from_arrays(load(content), float(manifest["temperature"]), str(manifest["kind"]))


def read_beside(folder: Path, name: str) -> bytes:
    """Return a file that was stored beside a head.

    Raises:
        CorruptModelError: it is missing, or does not match the manifest.
    """
    return _checked(folder, name, _manifest(folder).get("beside", {}).get(name))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"the model in {folder.name} cannot be read: {error}") from error


def _checked(folder: Path, name: str, sha256: str | None) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise CorruptModelError(f"the model in {folder.name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptModelError(f"{name} in {folder.name} does not match its checksum")
    return content
