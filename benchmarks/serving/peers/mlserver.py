"""MLServer with a runtime of its own: Open Inference Protocol, in its process (no worker pool).

It takes the unnamed tensor `records`, or with the content type `pd` an input for each field.
"""

from __future__ import annotations

import asyncio
import sys

import mlserver  # type: ignore[import-not-found]
import numpy as np
from mlserver.codecs import (  # type: ignore[import-not-found]
    NumpyCodec,
    PandasCodec,
    StringCodec,
)

from benchmarks.serving.peers.predictor import Predictor


class Classifier(mlserver.MLModel):  # type: ignore[misc]
    """Give each record its verdict."""

    async def load(self) -> bool:
        """Load the model."""
        self.predictor = Predictor()
        return True

    async def predict(self, payload: mlserver.types.InferenceRequest) -> object:
        """Classify: verdicts by column."""
        if len(payload.inputs) == 1:
            matrix = np.asarray(NumpyCodec.decode_input(payload.inputs[0]), np.float32)
        else:
            table = PandasCodec.decode_request(payload)
            matrix = table[self.predictor.names].to_numpy(np.float32)
        columns = self.predictor.columns(matrix)
        labels = self.predictor.names_of(columns.pop("label"))
        outputs = [NumpyCodec.encode_output(name, column) for name, column in columns.items()]
        return mlserver.types.InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("label", labels), *outputs]
        )


async def main(port: int, other_port: int) -> None:
    """Serve."""
    settings = mlserver.Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=other_port,
        debug=False,
        parallel_workers=0,
        metrics_endpoint=None,
        gzip_enabled=False,
    )
    model = mlserver.ModelSettings(name="iosxr", implementation=Classifier)
    await mlserver.MLServer(settings).start([model])


if __name__ == "__main__":
    mlserver.utils.install_uvloop_event_loop()
    asyncio.run(main(*map(int, sys.argv[1:3])))
