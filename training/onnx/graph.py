"""Build an ONNX graph node by node; equal nodes are made once."""

from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper

_OPSET: Final = 18
TREES_DOMAIN: Final = "ai.onnx.ml"
_TREES_OPSET: Final = 3
_FORM: Final = 10  # Version of the file format that every onnxruntime of the last years reads


class Graph:
    """A graph from "records" float32 [n, fields] to "embeddings" float32 [n, N]."""

    def __init__(self, fields: int) -> None:
        self.fields = fields
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._drawn: dict[tuple[Any, ...], str] = {}

    def constant(self, values: npt.ArrayLike) -> str:
        """Return the name of a constant: integers become int64, other numbers float32."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._drawn:
            self._drawn[key] = f"constant_{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._drawn[key]))
        return self._drawn[key]

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Return the name of an operator's output; equal operators of equal inputs share it."""
        key = (operator, inputs, tuple(sorted(attributes.items())))
        if key not in self._drawn:
            self._drawn[key] = f"{operator.lower()}_{len(self._nodes)}"
            node = helper.make_node(operator, inputs, [self._drawn[key]], **attributes)
            self._nodes.append(node)
        return self._drawn[key]

    def columns(self, source: str, indices: list[int], width: int) -> str:
        """Return the name of some columns of a source; its own if they are all of its columns."""
        if indices == list(range(width)):
            return source
        # onnxruntime copies rows whole, and columns number by number, four times as slowly.
        rows = self.node("Transpose", source, perm=(1, 0))
        gathered = self.node("Gather", rows, self.constant(indices), axis=0)
        return self.node("Transpose", gathered, perm=(1, 0))

    def joined(self, parts: list[str]) -> str:
        """Return the name of parts side by side; the part's own if there is one."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=1)

    def serialized(self, dimensions: int) -> bytes:
        """Serialize the graph; the last node's output is the embeddings, float32 [n, dimensions].

        A second output is the "distances" to the input "centroids": squared, over the number of
        dimensions, so that later classes need no other graph.
        """
        self._nodes[-1].output[0] = "embeddings"
        self._measure("embeddings", "centroids", dimensions)
        tensor = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [
                tensor("records", shape=["n", self.fields]),
                tensor("centroids", shape=["k", dimensions]),
            ],
            [tensor("embeddings", shape=["n", dimensions]), tensor("distances", shape=["n", "k"])],
            self._constants,
        )
        opset = [helper.make_opsetid("", _OPSET)]
        if any(node.domain == TREES_DOMAIN for node in self._nodes):
            opset.append(helper.make_opsetid(TREES_DOMAIN, _TREES_OPSET))
        model = helper.make_model(graph, opset_imports=opset, ir_version=_FORM)
        checker.check_model(model, full_check=True)
        serialized: bytes = model.SerializeToString(deterministic=True)
        return serialized

    def _measure(self, points: str, centroids: str, dimensions: int) -> None:
        """Add (|p|^2 + |c|^2 - 2 p c) / N, as in `models.decision.distances_between`."""
        middle, axis = self.constant(0.5), self.constant([1])
        a, b = self.node("Sub", points, middle), self.node("Sub", centroids, middle)
        of_a = self.node("ReduceSumSquare", a, axis, keepdims=1)
        of_b = self.node("ReduceSumSquare", b, axis, keepdims=0)
        scale = 1 / dimensions
        both = self.node("Gemm", a, b, of_b, alpha=-2 * scale, beta=scale, transB=1)
        scaled = self.node("Mul", of_a, self.constant(scale))
        ends = self.constant(0.0), self.constant(1.0)
        self.node("Clip", self.node("Add", both, scaled), *ends)
        self._nodes[-1].output[0] = "distances"
