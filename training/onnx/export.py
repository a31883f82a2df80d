"""Export the fitted encoder to ONNX, and check it against torch."""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from models.encoder import Encoder as OnnxEncoder
from models.schema import Matrix
from training.fitting.encoder import FAR, SATURATION, Encoder
from training.fitting.fit import embed
from training.fitting.forest import Forest
from training.fitting.pooling import HIGHEST, LOWEST, Pooling
from training.onnx.folding import Folded, Layer, Window, fold
from training.onnx.graph import TREES_DOMAIN, Graph

PARITY = 1e-5
"""Largest difference of any coordinate between torch and onnxruntime."""
_STEEP = 100.0
"""Whitening by a larger factor, as of classes that hardly scatter, turns the last digit of scaled
values into more than `PARITY`, in torch and in onnxruntime."""


class ExportError(RuntimeError):
    """The exported graph does not compute what the encoder computes."""


def export(encoder: Encoder, records: Matrix) -> bytes:
    """Export the encoder, scaling and imputation included, and check it on real records.

    Returns:
        A serialized graph: input "records" float32 [n, fields], output "embeddings" [n, N].

    Raises:
        ExportError: torch and onnxruntime differ by more than `PARITY`.
    """
    graph = _draw(fold(encoder.eval()), records.shape[1])
    check_parity(encoder, graph, np.concatenate([records, _hostile(records.shape[1])]))
    return graph


def check_parity(encoder: Encoder, graph: bytes, records: Matrix) -> None:
    """Raise ExportError if torch and onnxruntime differ by more than `PARITY` on records."""
    gap = np.abs(embed(encoder, records) - OnnxEncoder(graph).embed(records)).max()
    steepest = 0.0 if encoder.whitening is None else float(encoder.whitening.root.abs().max())
    allowed = PARITY * max(1.0, steepest / _STEEP)
    if not gap <= allowed:
        raise ExportError(
            f"onnxruntime and torch differ by {gap:.1e} (at most {allowed:g} is allowed); nothing "
            "was written, please report it with the versions of torch, onnx and onnxruntime"
        )


def _draw(folded: Folded, fields: int) -> bytes:
    # Members stay apart: several small matrices are faster than one that is mostly zeros.
    graph = Graph(fields)
    views = _Views(graph, folded)
    points = [views.joined(folded.seen, folded.seen_windows)] * len(folded.members)
    for depth, layers in enumerate(zip(*folded.members, strict=True)):
        if depth:
            points = [graph.node("Relu", point) for point in points]
        points = [_layer(graph, *pair) for pair in zip(points, layers, strict=True)]
    if folded.whitening is not None:
        points.append(_layer(graph, views.joined(folded.plain, folded.windows), folded.whitening))
    ends = graph.constant(-SATURATION), graph.constant(SATURATION)
    inside = graph.node("Sigmoid", graph.node("Clip", graph.joined(points), *ends))
    if folded.forest is not None:
        graph.joined([inside, _trees(graph, views.unscaled(), folded.forest)])
    return graph.serialized(folded.dimensions)


def _layer(graph: Graph, points: str, layer: Layer) -> str:
    return graph.node("Gemm", points, graph.constant(layer.weight), graph.constant(layer.bias))


def _trees(graph: Graph, values: str, forest: Forest) -> str:
    """Draw the forest: the sum of what its leaves add to each class, and the point of these."""
    bounds = [*forest.roots.tolist(), len(forest.features)]
    trees = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    nodes = np.arange(bounds[-1])
    starts = np.array(bounds)[trees]
    lower, upper = forest.lower.numpy(), forest.upper.numpy()
    is_leaf = lower == nodes
    added = forest.scores.numpy()
    leaves, columns = np.nonzero(np.where(is_leaf[:, None], added, 0))
    # Trees of one column are those of the classes, in turn.
    classes = columns if added.shape[1] == forest.classes else trees[leaves] % forest.classes
    scores = graph.node(
        "TreeEnsembleRegressor",
        values,
        domain=TREES_DOMAIN,
        n_targets=forest.classes,
        nodes_treeids=tuple(trees.tolist()),
        nodes_nodeids=tuple((nodes - starts).tolist()),
        nodes_featureids=tuple(forest.features.tolist()),
        nodes_values=tuple(forest.thresholds.tolist()),
        nodes_modes=tuple(np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist()),
        nodes_truenodeids=tuple(np.where(is_leaf, 0, lower - starts).tolist()),
        nodes_falsenodeids=tuple(np.where(is_leaf, 0, upper - starts).tolist()),
        target_treeids=tuple(trees[leaves].tolist()),
        target_nodeids=tuple((leaves - starts[leaves]).tolist()),
        target_ids=tuple(classes.tolist()),
        target_weights=tuple(added[leaves, columns].tolist()),
    )
    probabilities = graph.node("Softmax", scores, axis=1) if forest.is_boosted else scores
    return graph.node("MatMul", probabilities, graph.constant(forest.corners.numpy()))


class _Views:
    """Draws the views of raw records, up to the cut, that members and whitening need."""

    def __init__(self, graph: Graph, folded: Folded) -> None:
        self.graph, self.folded, self.scaling = graph, folded, folded.scaling
        self._median = self.scaling.median.numpy()
        self._source, self._width = "records", graph.fields
        if folded.pooling is not None:
            self._source = self._pooled(folded.pooling)
            self._width = len(folded.pooling.schema)

    def joined(self, parts: tuple[str, ...], windows: Mapping[str, Window]) -> str:
        """Draw these parts side by side, numbers cut to these windows."""
        draw = {
            "standard": lambda: self._standard(windows["standard"]),
            "flags": self._flags,
            "categories": self._categories,
            "log": lambda: self._log(windows["log"]),
            "bins": self._bins,
        }
        return self.graph.joined([draw[part]() for part in parts])

    def unscaled(self) -> str:
        """Draw numbers without missing ones, then flags and categories."""
        scaling = self.scaling
        draw = (
            (len(scaling.numbers), self._complete),
            (len(scaling.flags), self._flags),
            (len(scaling.categories), self._categories),
        )
        return self.graph.joined([part() for columns, part in draw if columns])

    def _raw(self, columns: list[int]) -> str:
        return self.graph.columns(self._source, columns, self._width)

    def _pooled(self, pooling: Pooling) -> str:
        """Draw the records with statistics over places instead of the fields of families."""
        node, constant = self.graph.node, self.graph.constant
        values = node("Gather", "records", constant(pooling.places.numpy()), axis=1)
        missing, last = node("IsNaN", values), constant([2])
        off = node("Sub", values, constant(pooling.typical.numpy()))
        off = node("Div", off, constant(pooling.size.numpy()))
        cut = node("Clip", off, constant(LOWEST), constant(HIGHEST))
        off = node("Where", missing, constant(0.0), cut)
        is_there = node("Cast", node("Not", missing), to=TensorProto.FLOAT)
        present = node("Mul", is_there, constant(pooling.counts.numpy()))
        count = node("ReduceSum", present, last, keepdims=1)
        mean = node("Div", node("ReduceSum", node("Mul", off, present), last, keepdims=1), count)
        gap = node("Sub", off, mean)
        squares = node("Mul", node("Mul", gap, gap), present)
        deviation = node("Sqrt", node("Div", node("ReduceSum", squares, last, keepdims=1), count))
        lowest = node("ReduceMin", node("Where", missing, constant(HIGHEST), off), last, keepdims=1)
        highest = node("ReduceMax", node("Where", missing, constant(LOWEST), off), last, keepdims=1)
        nothing = node("Sub", mean, mean)
        ends = [node("Add", end, nothing) for end in (lowest, highest)]
        statistics = [node("Squeeze", of, last) for of in (*ends, mean, deviation)]
        others = pooling.others.tolist()
        kept = [self.graph.columns("records", others, self.graph.fields)] if others else []
        return self.graph.joined([*kept, *statistics])

    def _complete(self) -> str:
        """Draw numbers, with the median where one is missing."""
        raw = self._raw(self.scaling.numbers.tolist())
        missing = self.graph.node("IsNaN", raw)
        return self.graph.node("Where", missing, self.graph.constant(self._median), raw)

    def _off(self) -> str:
        """Draw the distance from the median, 0 where a number is missing."""
        # ThresholdedRelu makes NaN 0, because NaN is not above minus infinity: one operator instead
        # of two. Bins need imputed numbers anyway, and distances from a median that is far off may
        # be minus infinity themselves.
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

    def _standard(self, window: Window) -> str:
        return self._cut(self._quotient(window), window)

    def _log(self, window: Window) -> str:
        node, spreads = self.graph.node, self._quotient(window)
        size = node("Log", node("Add", node("Abs", spreads), self.graph.constant(1.0)))
        return self._cut(node("Mul", node("Sign", spreads), size), window)

    def _flags(self) -> str:
        missing = self.graph.node("IsNaN", self._raw(self.scaling.flags.tolist()))
        return self.graph.node("Cast", missing, to=TensorProto.FLOAT)

    def _categories(self) -> str:
        pairs = [(i, float(code)) for i, n in self.scaling.categories for code in range(n)]
        columns, codes = map(list, zip(*pairs, strict=True))
        same = self.graph.node("Equal", self._raw(columns), self.graph.constant(codes))
        return self.graph.node("Cast", same, to=TensorProto.FLOAT)

    def _bins(self) -> str:
        node, constant = self.graph.node, self.graph.constant
        columns = self.scaling.binned.tolist()
        values = self.graph.columns(self._complete(), columns, len(self._median))
        off = node("Sub", values, constant(self.scaling.lower.numpy()))
        share = node("Div", off, constant(self.scaling.step.numpy()))
        return node("Clip", share, constant(0.0), constant(1.0))


def _hostile(fields: int) -> Matrix:
    """Return extreme records: all missing, zeros, and the largest numbers of float32."""
    edges = np.array([np.nan, 0, -1, 3e38, -3e38], dtype=np.float32)
    return np.repeat(edges[:, None], fields, axis=1)
