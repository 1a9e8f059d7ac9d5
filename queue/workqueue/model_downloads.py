"""A trained head as a file for other programs: safetensors as stored, or an ONNX graph.

Numpy and onnx only: the web process must not load torch. What the graph computes is what the heads
in ``ml.heads`` compute; a test compares them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from safetensors.numpy import load, save

from annotator.labeling.models import LabelClass
from workqueue.model_files import MANIFEST, WEIGHTS
from workqueue.models import ModelVersion

# As ml.heads writes it.
FORMAT = 2
# Read by every onnxruntime of the last years.
OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT = "embeddings", "probabilities"
# As in the ensemble of ml.heads: no probability is 0 or 1 before its logarithm is taken.
LEAST = 1e-7


@dataclass(frozen=True)
class StoredHead:
    """A head as its files say it is.

    Attributes:
        sort: logistic, mlp or ensemble.
        kind: one class per image, or several.
        temperature: logits are divided by it.
        arrays: its parameters by name.
        about: what else is to be known of it, as text by name.
    """

    sort: str
    kind: str
    temperature: float
    arrays: dict[str, Any]
    about: dict[str, str]


def etag_of(model: ModelVersion, what: str) -> str:
    """Return the version of a download: it changes with the model, and with the classes' names."""
    text = json.dumps([model.sha256, what, _about(model)], sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


class UnknownFormatError(Exception):
    """The model was saved in a format this version does not send."""


def read(model: ModelVersion) -> StoredHead:
    """Read a model whose files are whole (`workqueue.model_files.why_unusable`).

    Raises:
        UnknownFormatError: it is not saved as heads are today.
    """
    folder: Path = settings.MODELS_ROOT / model.folder
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if manifest.get("format") != FORMAT or manifest.get("head") not in _LOGITS:
        raise UnknownFormatError("it is saved in a format that is not sent")
    sort, kind = str(manifest["head"]), str(manifest["kind"])
    temperature = float(manifest["temperature"])
    about = {"head": sort, "kind": kind, "temperature": str(temperature), **_about(model)}
    arrays = load((folder / WEIGHTS).read_bytes())
    return StoredHead(sort, kind, temperature, dict(arrays), about)


def _about(model: ModelVersion) -> dict[str, str]:
    names = dict(LabelClass.objects.filter(project=model.project_id).values_list("pk", "name"))
    return {
        "model": str(model.number),
        "backbone": model.backbone,
        # Embeddings are of the plain backbone for `head`, else of the network trained with it.
        "training": model.training,
        "class_ids": json.dumps(model.class_ids),
        "class_names": json.dumps([names.get(pk) for pk in model.class_ids]),
    }


def as_safetensors(head: StoredHead) -> bytes:
    """Return the parameters as stored, with what is known of them in the metadata."""
    return save(head.arrays, metadata=head.about)


def as_onnx(head: StoredHead) -> bytes:
    """Return a graph from embeddings (n, dim) to calibrated probabilities (n, n_classes)."""
    graph = _Graph()
    logits = _LOGITS[head.sort](graph, head)
    scaled = graph.add("Div", logits, graph.constant(np.float32(head.temperature)))
    graph.probabilities(scaled, head.kind, name=OUTPUT)
    return graph.model(dim=_dim(head), n_classes=_n_classes(head), about=head.about)


class _Graph:
    """Nodes of an ONNX graph in their order."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value, dtype=np.float32)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = name or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def affine(self, inputs: str, weights: Any, bias: Any) -> str:
        """``inputs @ weights.T + bias``."""
        return self.add("Gemm", inputs, self.constant(weights), self.constant(bias), transB=1)

    def probabilities(self, logits: str, kind: str, name: str = "") -> str:
        if kind == "several_classes":
            return self.add("Sigmoid", logits, name=name)
        return self.add("Softmax", logits, name=name, axis=1)

    def model(self, *, dim: int, n_classes: int, about: dict[str, str]) -> bytes:
        from onnx import TensorProto, checker, helper

        graph = helper.make_graph(
            self._nodes,
            "head",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", dim])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", n_classes])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="annotator",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, about)
        checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def _logistic(graph: _Graph, head: StoredHead) -> str:
    return _folded(graph, head.arrays, "weights", "bias")


def _mlp(graph: _Graph, head: StoredHead) -> str:
    hidden = graph.add("Relu", _folded(graph, head.arrays, "hidden_weights", "hidden_bias"))
    return graph.affine(hidden, head.arrays["weights"], head.arrays["bias"])


def _ensemble(graph: _Graph, head: StoredHead) -> str:
    """The logits of the members' mean probability."""
    members = [
        graph.probabilities(_folded(graph, arrays, "weights", "bias"), head.kind)
        for arrays in _members(head)
    ]
    bounds = (graph.constant(np.float32(LEAST)), graph.constant(np.float32(1.0 - LEAST)))
    safe = graph.add("Clip", graph.add("Mean", *members), *bounds)
    said = graph.add("Log", safe)
    if head.kind != "several_classes":
        return said
    denied = graph.add("Log", graph.add("Sub", graph.constant(np.float32(1.0)), safe))
    return graph.add("Sub", said, denied)


def _folded(graph: _Graph, arrays: dict[str, Any], weights: str, bias: str) -> str:
    """A layer on the raw embeddings: their mean and scale are in its parameters."""
    scaled = (arrays[weights] * float(arrays["scale"][0])).astype(np.float32)
    return graph.affine(INPUT, scaled, arrays[bias] - scaled @ arrays["mean"])


def _members(head: StoredHead) -> Sequence[dict[str, Any]]:
    members: dict[int, dict[str, Any]] = {}
    for key, array in head.arrays.items():
        index, name = key.split(".", 1)
        members.setdefault(int(index), {})[name] = array
    return [members[index] for index in sorted(members)]


_LOGITS = {"logistic": _logistic, "mlp": _mlp, "ensemble": _ensemble}


def _dim(head: StoredHead) -> int:
    arrays = _members(head)[0] if head.sort == "ensemble" else head.arrays
    return len(arrays["mean"])


def _n_classes(head: StoredHead) -> int:
    arrays = _members(head)[0] if head.sort == "ensemble" else head.arrays
    return len(arrays["bias"])
