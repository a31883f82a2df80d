"""The ONNX encoder: raw records in, points of the unit cube out."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state

from models.decision import distances_between
from models.schema import Matrix

_FAILURES = tuple(
    kind
    for kind in vars(onnxruntime_pybind11_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)
"""onnxruntime's exceptions, which have no base class of their own."""

__all__ = ["Encoder", "EncoderError"]

_BLOCK = 1024
"""Records of one inference, so that what it makes of them stays in the cache: ten thousand at once
take up to half as long again."""


class EncoderError(ValueError):
    """The graph is not an encoder, or fails."""


class Encoder:
    """A graph that holds imputation, scaling and the network, run by onnxruntime.

    Args:
        graph: serialized ONNX model from records, float32 [n, fields] (NaN = missing), to
            embeddings, float32 [n, dimensions]; optionally also from centroids, float32
            [k, dimensions], to the distances to them, float32 [n, k].
        threads: threads of one inference; 1 leaves the other cores to other requests.

    Raises:
        EncoderError: the graph cannot be loaded or has another signature.
    """

    def __init__(self, graph: bytes, *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Kept, because each run would make its own: 4 microseconds, a tenth of a single record's.
        self._options = ort.RunOptions()
        try:
            self._session = ort.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            source, *centroids = self._session.get_inputs()
            target, *distances = self._session.get_outputs()
            self._records, self._embeddings = source.name, [target.name]
            self.fields, self.dimensions = _width(source), _width(target)
            self._centroids: str | None = None
            self._unused: dict[str, Matrix] = {}
            if centroids or distances:
                ((second,), (output,)) = centroids, distances
                self._centroids, self._distances = second.name, [output.name]
                self._unused = {second.name: np.zeros((1, _width(second)), np.float32)}
                _check_distances(output, _width(second), self.dimensions)
        except _FAILURES as error:
            raise EncoderError("the graph cannot be loaded by this onnxruntime") from error
        except (ValueError, UnicodeDecodeError) as error:
            raise EncoderError(
                "the graph must have one input and one output, both float32 [n, width], and may "
                "have centroids as a second input and distances as a second output"
            ) from error

    def embed(self, matrix: Matrix) -> Matrix:
        """Embed records.

        Args:
            matrix: float32 [n, fields] in the units of the schema, NaN where missing.

        Returns:
            float32 [n, dimensions], each in (0, 1).

        Raises:
            EncoderError: the graph fails.
        """
        if not len(matrix):
            return np.empty((0, self.dimensions), np.float32)
        return self._run(self._embeddings, matrix, self._unused)

    def measure(self, matrix: Matrix, centroids: Matrix) -> Matrix:
        """Embed records and measure their distances to centroids.

        Args:
            matrix: float32 [n, fields] in the units of the schema, NaN where missing.
            centroids: float32 [k, dimensions].

        Returns:
            float32 [n, k], squared Euclidean distances over the number of dimensions, 0..1.

        Raises:
            EncoderError: the graph fails.
        """
        if self._centroids is None or not len(matrix):
            return distances_between(self.embed(matrix), centroids)
        return self._run(self._distances, matrix, {self._centroids: centroids})

    def _run(self, outputs: list[str], matrix: Matrix, others: dict[str, Matrix]) -> Matrix:
        if len(matrix) > _BLOCK:
            blocks = [matrix[i : i + _BLOCK] for i in range(0, len(matrix), _BLOCK)]
            return np.concatenate([self._run(outputs, block, others) for block in blocks])
        inputs = {self._records: matrix, **others}
        try:
            output: Matrix = self._session.run(outputs, inputs, self._options)[0]
        except _FAILURES as error:
            raise EncoderError("the graph fails on these records") from error
        return output


def _check_distances(argument: ort.NodeArg, width: int, dimensions: int) -> None:
    wide = any(isinstance(length, int) for length in argument.shape)
    if argument.type != "tensor(float)" or len(argument.shape) != 2 or wide or width != dimensions:
        raise ValueError(argument)


def _width(argument: ort.NodeArg) -> int:
    batch, width = argument.shape
    if argument.type != "tensor(float)" or isinstance(batch, int) or not isinstance(width, int):
        raise ValueError(argument)
    return width
