"""The ONNX encoder: raw records in, points of the unit cube out."""

from __future__ import annotations

import os

import numpy as np

# Read at import: without it onnxruntime's own wheels report their use to their maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state

from models.schema import Matrix

_FAILURES = tuple(
    kind
    for kind in vars(onnxruntime_pybind11_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)
"""onnxruntime's exceptions, which have no base class of their own."""

__all__ = ["Encoder", "EncoderError"]


class EncoderError(ValueError):
    """The graph is not an encoder, or it does not embed as one must."""


class Encoder:
    """A graph that holds imputation, scaling and the network, run by onnxruntime.

    Args:
        graph: serialized ONNX model with one input, float32 [n, fields] (NaN = missing), and one
            output, float32 [n, dimensions].
        threads: threads of one inference; 1 leaves the other cores to other requests.

    Raises:
        EncoderError: the graph cannot be read or has another signature.
    """

    def __init__(self, graph: bytes, *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            (source,), (target,) = self._session.get_inputs(), self._session.get_outputs()
            self._input: str = source.name
            self.fields, self.dimensions = _width(source), _width(target)
        except _FAILURES as error:
            raise EncoderError("the graph cannot be loaded by this onnxruntime") from error
        except (ValueError, UnicodeDecodeError) as error:
            raise EncoderError(
                "the graph must have one input and one output, both float32 [n, width]"
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
        try:
            embeddings: Matrix = self._session.run(None, {self._input: matrix})[0]
        except _FAILURES as error:
            raise EncoderError("the graph fails on these records") from error
        return embeddings


def _width(argument: ort.NodeArg) -> int:
    batch, width = argument.shape
    if argument.type != "tensor(float)" or isinstance(batch, int) or not isinstance(width, int):
        raise ValueError(argument)
    return width
