"""The ONNX encoder: raw records in, points of the unit cube out."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.schema import Matrix

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
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf) as error:
            raise EncoderError("the graph cannot be loaded by onnxruntime") from error
        except (ort_errors.InvalidArgument, ort_errors.NotImplemented) as error:
            raise EncoderError("the graph uses what this onnxruntime does not have") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != len(outputs[0].shape):
            raise EncoderError("the graph must have one input and one output, both [n, width]")
        self._input = inputs[0].name
        self.fields: int = inputs[0].shape[1]
        self.dimensions: int = outputs[0].shape[1]

    def embed(self, matrix: Matrix) -> Matrix:
        """Embed records.

        Args:
            matrix: float32 [n, fields] in the units of the schema, NaN where missing.

        Returns:
            float32 [n, dimensions], each in (0, 1).
        """
        if not len(matrix):
            return np.empty((0, self.dimensions), np.float32)
        embeddings: Matrix = self._session.run(None, {self._input: matrix})[0]
        return embeddings
