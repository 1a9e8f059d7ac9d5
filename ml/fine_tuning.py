"""Fine-tuning: the whole network follows the labels, each time from the pretrained weights.

First a linear head is fitted on the embeddings of the frozen network, then head and network go on
together in small steps (LP-FT). With a random head the first steps would distort what the network
knows before the head has learned anything. It never starts from a former fine-tuned network: such
warm starts fit as well and generalise worse.

Sources: Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform
out-of-distribution", arXiv:2202.10054; Ash and Adams (2020), "On warm-starting neural network
training", arXiv:1910.08475.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional

from ml.arrays import FloatArray
from ml.backbones import BackboneSpec
from ml.heads import CorruptModelError, Head, LogisticHead, read_beside, save_head
from ml.pictures import decode_ahead
from ml.training import HeadConfig, balanced_weights, data_loss, decay, fit_head

NETWORK = "network.safetensors"


class FineTuningError(Exception):
    """Fine-tuning cannot give a network; the text says why."""


@dataclass(frozen=True)
class FineTuningConfig:
    """How a network is fine-tuned.

    Attributes:
        epochs: how often each picture is seen.
        max_steps: the end, however many pictures there are; bounds the time.
        batch_size: pictures per step.
        learning_rate: of AdamW at its highest.
        weight_decay: of AdamW, on the network; the head's is part of the loss, as in its own fit.
        clip_norm: the gradient is never longer than this.
        warm_up: share of the steps over which the learning rate rises.
        flips: each picture is mirrored half of the time; wrong where left and right matter.
        balanced: classes count alike, however many labels each has.
    """

    epochs: int = 6
    max_steps: int = 150
    batch_size: int = 16
    learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    warm_up: float = 0.1
    flips: bool = False
    balanced: bool = False


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning gives.

    Attributes:
        network: pictures (n, 3, size, size) to embeddings (n, dim); on the CPU, for inference.
        head: a head on its embeddings.
        losses: the loss of each step.
        failures: index of a picture file -> why it was left out.
    """

    network: nn.Module
    head: LogisticHead
    losses: list[float]
    failures: dict[int, str]


def fine_tune(
    network: nn.Module,
    spec: BackboneSpec,
    paths: Sequence[Path],
    embeddings: FloatArray,
    targets: Any,
    *,
    n_classes: int,
    kind: str = "one_class",
    seed: int = 0,
    config: FineTuningConfig | None = None,
    device: str = "cpu",
    decode_threads: int = 2,
    on_step: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Fine-tune a network on labelled pictures. The same seed gives the same result on a CPU.

    Args:
        network: pretrained; it is copied, never changed.
        spec: what its pictures look like.
        paths: the picture files, n_items; one that cannot be read is named and left out.
        embeddings: shape (n_items, dim), of the pretrained network.
        targets: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        n_classes: how many classes the head tells apart, labelled or not.
        kind: ``one_class`` or ``several_classes``.
        seed: of the order of the pictures, and of flips.
        config: how to train.
        device: ``cpu`` or ``cuda``.
        decode_threads: threads that decode the next batch meanwhile.
        on_step: called with the steps done and all steps; may raise to stop.

    Raises:
        NotEnoughLabelsError: fewer than two classes have labels.
        BadArrayError: an embedding is not finite; the error names its row.
        FineTuningError: no picture can be read, or the loss is not finite.
    """
    config = config or FineTuningConfig()
    head_config = HeadConfig(balanced=config.balanced)
    start = fit_head(embeddings, targets, n_classes=n_classes, kind=kind, config=head_config)
    assert isinstance(start, LogisticHead)  # noqa: S101 - what HeadConfig's default gives
    training = _Training(network, start, config, head_config.weight_decay, device)
    weights = np.ones(len(paths), dtype=np.float32)
    if config.balanced and kind == "one_class":
        weights = balanced_weights(targets)
    generator = torch.Generator().manual_seed(seed)
    batches = _batches(len(paths), config, generator)
    decoded_batches = decode_ahead(paths, spec, batches, threads=decode_threads)
    losses: list[float] = []
    failures: dict[int, str] = {}
    for step, (batch, decoded) in enumerate(zip(batches, decoded_batches, strict=True)):
        pictures, kept = _readable(batch, decoded, failures)
        if kept:
            if config.flips:
                pictures = _mirrored(pictures, generator)
            training.learning_rate = config.learning_rate * _schedule(step, len(batches), config)
            losses.append(training.step(pictures, np.asarray(targets)[kept], weights[kept]))
        if on_step:
            on_step(step + 1, len(batches))
    if not losses:
        raise FineTuningError(f"None of the {len(paths)} labelled pictures can be read.")
    return FineTuned(training.network_on_cpu(), training.head(), losses, failures)


class _Training:
    """A copy of the network and of its head that go on together."""

    def __init__(
        self,
        network: nn.Module,
        start: LogisticHead,
        config: FineTuningConfig,
        head_decay: float,
        device: str,
    ) -> None:
        # Inference mode: batch norm keeps its pretrained statistics (a few small batches would
        # ruin them), and nothing is dropped at random.
        self._network = copy.deepcopy(network).eval().requires_grad_(True).to(device)
        self._start = start
        self._device = device
        self._decay = head_decay
        self._clip_norm = config.clip_norm
        self._mean = torch.from_numpy(start.mean).to(device)
        self._weights = nn.Parameter(torch.from_numpy(start.weights.copy()).to(device))
        self._bias = nn.Parameter(torch.from_numpy(start.bias.copy()).to(device))
        self._parameters = [*self._network.parameters(), self._weights, self._bias]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": list(self._network.parameters()), "weight_decay": config.weight_decay},
                {"params": [self._weights, self._bias], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
        )
        self.learning_rate = config.learning_rate

    def step(self, pictures: FloatArray, targets: Any, weights: FloatArray) -> float:
        """Take one step and return the loss before it.

        Raises:
            FineTuningError: the loss is not finite.
        """
        several = self._start.kind == "several_classes"
        y = torch.from_numpy(targets.astype(np.float32 if several else np.int64)).to(self._device)
        counted = torch.from_numpy(weights).to(self._device)
        embedded = self._network(torch.from_numpy(pictures).to(self._device))
        features = (embedded.float() - self._mean) * self._start.scale
        logits = functional.linear(features, self._weights, self._bias)
        loss = data_loss(logits, y, counted, several=several)
        loss = loss + decay(self._weights, self._bias, self._decay)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FineTuningError("Fine-tuning went astray: the loss is not finite.")
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._optimiser.step()
        return value

    def network_on_cpu(self) -> nn.Module:
        """Return the network as it is now, for inference."""
        return self._network.cpu().requires_grad_(False)

    def head(self) -> LogisticHead:
        """Return the head as it is now."""
        start = self._start
        weights, bias = (part.detach().cpu().numpy().copy() for part in (self._weights, self._bias))
        return LogisticHead(weights, bias, start.mean, start.scale, kind=start.kind)


def _batches(n: int, config: FineTuningConfig, generator: torch.Generator) -> list[list[int]]:
    """Return the pictures of each step: every epoch another order of all of them."""
    size = min(config.batch_size, n)
    batches: list[list[int]] = []
    for _ in range(config.epochs):
        order = torch.randperm(n, generator=generator).tolist()
        batches += [order[at : at + size] for at in range(0, n, size)]
    return batches[: config.max_steps]


def _readable(
    batch: Sequence[int], decoded: Sequence[FloatArray | str], failures: dict[int, str]
) -> tuple[FloatArray, list[int]]:
    """Return the pictures that can be learned from and their indices; name the others."""
    pictures: list[FloatArray] = []
    kept: list[int] = []
    for index, item in zip(batch, decoded, strict=True):
        if isinstance(item, str):
            failures[index] = item
        elif not np.isfinite(item).all():
            failures[index] = "the picture is not finite"
        else:
            pictures.append(item)
            kept.append(index)
    return np.stack(pictures) if pictures else np.empty(0, np.float32), kept


def _mirrored(pictures: FloatArray, generator: torch.Generator) -> FloatArray:
    is_mirrored = torch.rand(len(pictures), generator=generator).numpy() < 0.5
    return np.where(is_mirrored[:, None, None, None], pictures[..., ::-1], pictures)


def _schedule(step: int, n_steps: int, config: FineTuningConfig) -> float:
    """Return the share of the learning rate: a short rise, then half a cosine down to zero."""
    rise = max(1, round(config.warm_up * n_steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(n_steps - rise, 1)))


# --- Storage ----------------------------------------------------------------------------------


def save_fine_tuned(network: nn.Module, head: Head, folder: Path, manifest: dict[str, Any]) -> str:
    """Store a network and its head; ``folder`` is complete or absent, also after a power cut.

    Args:
        network: what embeds.
        head: the head on its embeddings.
        folder: must not exist yet.
        manifest: what else is to be known.

    Returns:
        The sha-256 of the head's weights; the network's is in the manifest.
    """
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    return save_head(head, folder, manifest, beside={NETWORK: save(state)})


def load_fine_tuned(folder: Path, pretrained: nn.Module) -> nn.Module:
    """Load a stored network; it embeds as the one that was saved.

    Args:
        folder: where it was saved.
        pretrained: a network of the same architecture; it is copied, never changed.

    Raises:
        CorruptModelError: a file is missing, does not match the manifest, or is of another
            architecture.
    """
    network = copy.deepcopy(pretrained)
    try:
        network.load_state_dict(load(read_beside(folder, NETWORK)))
    except RuntimeError as error:
        raise CorruptModelError(f"the network in {folder.name} is another one: {error}") from error
    return network.eval().requires_grad_(False)
