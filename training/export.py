"""The fitted encoder as ONNX, checked against torch before it is believed."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch

from models.encoder import Encoder as OnnxEncoder
from models.schema import Matrix
from training.encoder import Encoder
from training.fit import embed

__all__ = ["PARITY", "ExportError", "export"]

PARITY = 1e-5
"""Largest difference of any coordinate between torch and onnxruntime."""


class ExportError(RuntimeError):
    """The exported graph does not compute what the encoder computes."""


def export(encoder: Encoder, records: Matrix) -> bytes:
    """Export the encoder, scaling and imputation included, and check it.

    Args:
        encoder: in evaluation mode.
        records: float32 [n, fields], real records to compare on; hostile ones are added.

    Returns:
        A serialized graph: input "records" float32 [n, fields], output "embeddings" [n, N].

    Raises:
        ExportError: torch and onnxruntime differ by more than `PARITY`.
    """
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it tells of every torchvision operator it does without
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # deprecations inside the exporter itself
            program = torch.onnx.export(
                encoder.eval(),
                (torch.zeros(2, records.shape[1]),),  # of one row it would make a constant
                input_names=["records"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    model = program.model_proto  # type: ignore[union-attr]  # None only for the old exporter
    _strip(model)
    graph: bytes = model.SerializeToString(deterministic=True)
    check_parity(encoder, graph, np.concatenate([records, _hostile(records.shape[1])]))
    return graph


def check_parity(encoder: Encoder, graph: bytes, records: Matrix) -> None:
    """Compare torch and onnxruntime on records.

    Raises:
        ExportError: they differ by more than `PARITY`.
    """
    gap = np.abs(embed(encoder, records) - OnnxEncoder(graph).embed(records)).max()
    if not gap <= PARITY:
        raise ExportError(
            f"onnxruntime and torch differ by {gap:.1e} (at most {PARITY:g} is allowed); nothing "
            "was written, please report it with the versions of torch, onnxruntime and onnxscript"
        )


def _strip(model: Any) -> None:
    """Drop the exporter's notes on nodes, which hold paths and line numbers of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    del graph.value_info[:]


def _hostile(fields: int) -> Matrix:
    """Records at the edges: all missing, zeros, and the largest numbers that float32 has."""
    edges = np.array([np.nan, 0, -1, 3e38, -3e38], dtype=np.float32)
    return np.repeat(edges[:, None], fields, axis=1)
