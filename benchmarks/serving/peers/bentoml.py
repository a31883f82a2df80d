"""BentoML: one service, one worker, records as plain dicts."""

from __future__ import annotations

import sys
from typing import Any

import bentoml  # type: ignore[import-not-found]

from benchmarks.serving.peers.predictor import Predictor


@bentoml.service(
    workers=1,
    threads=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Classifier:
    """Give each record its verdict."""

    def __init__(self) -> None:
        self.predictor = Predictor()

    @bentoml.api  # type: ignore[untyped-decorator]
    def classify(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Classify."""
        return self.predictor.verdicts(self.predictor.matrix(records))


if __name__ == "__main__":
    from bentoml_cli.cli import create_bentoml_cli  # type: ignore[import-not-found]

    target = "benchmarks.serving.peers.bentoml:Classifier"
    create_bentoml_cli()(["serve", target, "--host", "127.0.0.1", "--port", sys.argv[1]])
