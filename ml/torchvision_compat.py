"""Import torchvision also next to a CPU build of torch.

The Linux wheel of torchvision is built for CUDA. Beside a CPU torch its compiled operators cannot
be loaded, and the import fails because two operators it refers to do not exist. Declaring these two
is enough for everything of torchvision that is Python (models, transforms). Where the compiled
operators load, nothing is changed. All imports of torchvision go through here.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch


def _compiled_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    folder = Path(spec.origin).parent
    for library in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]:
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False


def _declare_missing_operators() -> "torch.library.Library":
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


# The library must live as long as the process, or its operators vanish again.
_declared: Any = None if _compiled_operators_load() else _declare_missing_operators()

import torchvision  # noqa: E402

__all__ = ["torchvision"]
