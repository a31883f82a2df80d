"""Ray Serve: one replica of one deployment behind its HTTP proxy, records as plain dicts."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.predictor import Predictor


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Classifier:
    """Give each record its verdict."""

    def __init__(self) -> None:
        self.predictor = Predictor()

    async def __call__(self, request: Request) -> list[dict[str, Any]]:
        """Classify; a GET asks only whether it is there."""
        if request.method == "GET":
            return []
        body = await request.json()
        return self.predictor.verdicts(self.predictor.matrix(body["records"]))


if __name__ == "__main__":
    port, _, scratch = sys.argv[1:]
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, _temp_dir=scratch)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(
        Classifier.bind(),  # type: ignore[attr-defined]
        route_prefix="/classify",
        logging_config={"enable_access_log": False},
    )
    signal.pause()
