"""The model that every peer serves: the shipped graph gives distances, numpy takes the nearest.

It needs numpy and onnxruntime alone, and takes records as they come: what is checked of them is the
server's affair, so that a peer is never slower than it has to be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

BUNDLE = Path(__file__).parents[3] / "models" / "iosxr"

Matrix = npt.NDArray[np.float32]


class Predictor:
    """Gives records their verdicts by a bundle, which is trusted here."""

    def __init__(self, folder: Path = BUNDLE) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        self.fields: list[dict[str, Any]] = manifest["fields"]
        self.names: list[str] = [field["name"] for field in self.fields]
        classes = manifest["classes"]
        self.labels: list[str] = [entry["name"] for entry in classes]
        self._good = np.array([entry["good"] for entry in classes])
        self._radii = np.array([entry["radius"] for entry in classes], np.float32)
        self._centroids = np.array([entry["centroid"] for entry in classes], np.float32)
        self._temperature = np.float32(manifest["calibration"]["temperature"])
        shares = np.array([entry.get("share", 1.0) for entry in classes])
        self._handicaps = (-float(self._temperature) * np.log(shares)).astype(np.float32)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = str(folder / "encoder.onnx")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def matrix(self, records: Sequence[Mapping[str, Any]]) -> Matrix:
        """Records as float32 [n, fields], NaN where missing; categories as their index."""
        columns = [self._column(field, records) for field in self.fields]
        return np.stack(columns, axis=1)

    def _column(self, field: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> Matrix:
        name = field["name"]
        if field["kind"] == "category":
            codes = {value: float(i) for i, value in enumerate(field["categories"])}
            return np.array([codes.get(record.get(name), np.nan) for record in records], np.float32)
        return np.array([record.get(name) for record in records], np.float32)

    def measure(self, matrix: Matrix) -> Matrix:
        """The graph alone: float32 [n, fields] to distances, float32 [n, k]."""
        inputs = {"records": matrix, "centroids": self._centroids}
        distances: Matrix = self._session.run(["distances"], inputs)[0]
        return distances

    def columns(self, matrix: Matrix) -> dict[str, npt.NDArray[Any]]:
        """Verdicts by column: label (index of a class, -1 unknown), good, distance, confidence."""
        distances = self.measure(matrix)
        expected = distances + self._handicaps
        nearest, rows = expected.argmin(axis=1), np.arange(len(distances))
        shortest = distances[rows, nearest]
        weights = np.exp((expected[rows, nearest][:, None] - expected) / self._temperature)
        accepted = shortest <= self._radii[nearest]
        return {
            "label": np.where(accepted, nearest, -1),
            "good": accepted & self._good[nearest],
            "distance": shortest,
            "confidence": weights[rows, nearest] / weights.sum(axis=1),
        }

    def names_of(self, labels: npt.NDArray[Any]) -> list[str]:
        """Names of the classes with these indices."""
        names = [*self.labels, "unknown"]
        return [names[label] for label in labels.tolist()]

    def verdicts(self, matrix: Matrix) -> list[dict[str, Any]]:
        """Verdicts by record, as a client gets them."""
        columns = self.columns(matrix)
        numbers = (columns[name].tolist() for name in ("good", "distance", "confidence"))
        names = self.names_of(columns["label"])
        return [
            {"label": label, "good": good, "distance": distance, "confidence": confidence}
            for label, good, distance, confidence in zip(names, *numbers, strict=True)
        ]
