"""The fitted encoder as ONNX, checked against torch before it is believed."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.encoder import Encoder as OnnxEncoder
from models.schema import Matrix
from training.fitting.encoder import FAR, SATURATION, Encoder
from training.fitting.fit import embed
from training.onnx.folding import Folded, Layer, Window, fold
from training.onnx.graph import Graph

__all__ = ["PARITY", "ExportError", "check_parity", "export"]

PARITY = 1e-5
"""Largest difference of any coordinate between torch and onnxruntime."""
_STEEP = 100.0
"""Whitening that multiplies by more than this, as that of classes which hardly scatter does, makes
more than `PARITY` of the last digit of scaled values, in torch as in onnxruntime."""


class ExportError(RuntimeError):
    """The exported graph does not compute what the encoder computes."""


def export(encoder: Encoder, records: Matrix) -> bytes:
    """Export the encoder, scaling and imputation included, and check it.

    Args:
        encoder: put into evaluation mode.
        records: float32 [n, fields], real records to compare on; hostile ones are added.

    Returns:
        A serialized graph: input "records" float32 [n, fields], output "embeddings" [n, N].

    Raises:
        ExportError: torch and onnxruntime differ by more than `PARITY`.
    """
    graph = _draw(fold(encoder.eval()), records.shape[1])
    check_parity(encoder, graph, np.concatenate([records, _hostile(records.shape[1])]))
    return graph


def check_parity(encoder: Encoder, graph: bytes, records: Matrix) -> None:
    """Compare torch and onnxruntime on records.

    Raises:
        ExportError: they differ by more than `PARITY`, or what float32 cannot tell apart.
    """
    gap = np.abs(embed(encoder, records) - OnnxEncoder(graph).embed(records)).max()
    steepest = 0.0 if encoder.whitening is None else float(encoder.whitening.root.abs().max())
    allowed = PARITY * max(1.0, steepest / _STEEP)
    if not gap <= allowed:
        raise ExportError(
            f"onnxruntime and torch differ by {gap:.1e} (at most {allowed:g} is allowed); nothing "
            "was written, please report it with the versions of torch, onnx and onnxruntime"
        )


def _draw(folded: Folded, fields: int) -> bytes:
    """Draw members side by side: a small matrix each is faster than one that is mostly zeros."""
    graph = Graph(fields)
    views = _Views(graph, folded)
    points = [views.joined(folded.seen)] * len(folded.members)
    for depth in range(len(folded.members[0])):
        if depth:
            points = [graph.node("Relu", each) for each in points]
        layers = [member[depth] for member in folded.members]
        points = [_layer(graph, each, layer) for each, layer in zip(points, layers, strict=True)]
    if folded.whitening is not None:
        points.append(_layer(graph, views.joined(folded.plain), folded.whitening))
    ends = graph.constant(-SATURATION), graph.constant(SATURATION)
    graph.node("Sigmoid", graph.node("Clip", graph.joined(points), *ends))
    return graph.serialized(folded.dimensions)


def _layer(graph: Graph, points: str, layer: Layer) -> str:
    return graph.node("Gemm", points, graph.constant(layer.weight), graph.constant(layer.bias))


class _Views:
    """Raw records as members and whitening look at them, up to the cut; drawn when asked for."""

    def __init__(self, graph: Graph, folded: Folded) -> None:
        self.graph, self.folded, self.scaling = graph, folded, folded.scaling
        self._median = self.scaling.median.numpy()

    def joined(self, parts: tuple[str, ...]) -> str:
        """These parts side by side."""
        draw = {
            "standard": self._standard,
            "flags": self._flags,
            "categories": self._categories,
            "log": self._log,
            "bins": self._bins,
        }
        return self.graph.joined([draw[part]() for part in parts])

    def _raw(self, columns: list[int]) -> str:
        return self.graph.columns("records", columns, self.graph.fields)

    def _complete(self) -> str:
        """Numbers, the median where one is missing."""
        raw = self._raw(self.scaling.numbers.tolist())
        missing = self.graph.node("IsNaN", raw)
        return self.graph.node("Where", missing, self.graph.constant(self._median), raw)

    def _off(self) -> str:
        """Distance from the median, 0 where a number is missing.

        NaN is not above minus infinity, and so ThresholdedRelu makes it 0: one operator instead
        of two, which are needed when bins ask for whole numbers, or for a median that is so far
        off that a distance from it may be minus infinity itself.
        """
        median = self.graph.constant(self._median)
        if "bins" in self.folded.seen or np.abs(self._median).max() > FAR:
            return self.graph.node("Sub", self._complete(), median)
        off = self.graph.node("Sub", self._raw(self.scaling.numbers.tolist()), median)
        return self.graph.node("ThresholdedRelu", off, alpha=float("-inf"))

    def _quotient(self, window: Window) -> str:
        return self.graph.node("Div", self._off(), self.graph.constant(window.divisor))

    def _cut(self, values: str, window: Window) -> str:
        above = self.graph.node("Max", values, self.graph.constant(window.lowest))
        return self.graph.node("Min", above, self.graph.constant(window.highest))

    def _standard(self) -> str:
        return self._cut(self._quotient(self.folded.standard), self.folded.standard)

    def _log(self) -> str:
        node, spreads = self.graph.node, self._quotient(self.folded.log)
        size = node("Log", node("Add", node("Abs", spreads), self.graph.constant(1.0)))
        return self._cut(node("Mul", node("Sign", spreads), size), self.folded.log)

    def _flags(self) -> str:
        missing = self.graph.node("IsNaN", self._raw(self.scaling.flags.tolist()))
        return self.graph.node("Cast", missing, to=TensorProto.FLOAT)

    def _categories(self) -> str:
        owner = [column for column, count in self.scaling.categories for _ in range(count)]
        codes = [float(code) for _, count in self.scaling.categories for code in range(count)]
        same = self.graph.node("Equal", self._raw(owner), self.graph.constant(codes))
        return self.graph.node("Cast", same, to=TensorProto.FLOAT)

    def _bins(self) -> str:
        node, constant = self.graph.node, self.graph.constant
        owner = self.scaling.binned.tolist()
        values = self.graph.columns(self._complete(), owner, len(self._median))
        off = node("Sub", values, constant(self.scaling.lower.numpy()))
        share = node("Div", off, constant(self.scaling.step.numpy()))
        return node("Clip", share, constant(0.0), constant(1.0))


def _hostile(fields: int) -> Matrix:
    """Records at the edges: all missing, zeros, and the largest numbers that float32 has."""
    edges = np.array([np.nan, 0, -1, 3e38, -3e38], dtype=np.float32)
    return np.repeat(edges[:, None], fields, axis=1)
