"""A backbone so small that fine-tuning it takes a moment."""

import torch
from torch import nn

from ml.backbones import BackboneSpec

DIM = 16
SPEC = BackboneSpec("tiny", DIM, 32, "lite", "1")


def tiny_network() -> nn.Module:
    """Return the same untrained network every time: pictures (n, 3, 32, 32) to (n, 16)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, DIM, 3, 2, 1), nn.BatchNorm2d(DIM), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1),
        )  # fmt: skip
    return network.eval()
