"""KServe's Python server: protocol V1 with records as dicts, V2 with the tensor `records`."""

from __future__ import annotations

import logging
import sys
from typing import Any

import kserve  # type: ignore[import-not-found]
import numpy as np

from benchmarks.serving.peers.predictor import Predictor


class Classifier(kserve.Model):  # type: ignore[misc]
    """Give each record its verdict."""

    def __init__(self) -> None:
        super().__init__("iosxr")
        self.predictor = Predictor()
        self.ready = True

    async def predict(
        self,
        payload: dict[str, Any] | kserve.InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002
        response_headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> dict[str, Any] | kserve.InferResponse:
        """Classify: verdicts by record to V1, by column to V2."""
        if isinstance(payload, dict):
            matrix = self.predictor.matrix(payload["instances"])
            return {"predictions": self.predictor.verdicts(matrix)}
        columns = self.predictor.columns(payload.inputs[0].as_numpy())
        columns["label"] = np.array(self.predictor.names_of(columns["label"]), dtype=np.object_)
        kinds = {"label": "BYTES", "good": "BOOL", "distance": "FP32", "confidence": "FP32"}
        outputs = []
        for name, kind in kinds.items():
            output = kserve.InferOutput(name, [len(columns[name])], kind)
            output.set_data_from_numpy(columns[name], binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return kserve.InferResponse(payload.id or "", "iosxr", outputs)


if __name__ == "__main__":
    kserve.logging.configure_logging()
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    server = kserve.ModelServer(
        http_port=int(sys.argv[1]),
        workers=1,
        enable_grpc=False,
        enable_latency_logging=False,
        event_loop="uvloop",
    )
    server.start([Classifier()])
