"""LitServe: one API server process, one worker process, records as plain dicts."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt

from benchmarks.serving.peers.predictor import Predictor


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """Give each record its verdict."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        self.predictor = Predictor()

    # LitServe gives its own Request, Response meaning: JSON, not checked.
    def decode_request(self, request: litserve.Request) -> npt.NDArray[np.float32]:
        """To the encoder's input."""
        return self.predictor.matrix(request["records"])

    def predict(self, x: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """Classify."""
        return self.predictor.verdicts(x)

    def encode_response(self, output: list[dict[str, Any]]) -> litserve.Response:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(api_path="/classify"), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
