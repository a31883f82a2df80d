"""pytriton: NVIDIA Triton with a Python callable behind it, tensors in and out."""

from __future__ import annotations

import os
import sys
import sysconfig

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

from benchmarks.serving.peers.predictor import Predictor

MOST = 10_000
"""Records in one request."""

A_DAY = 86_400

predictor = Predictor()
names = np.array([*predictor.labels, "unknown"]).astype(np.bytes_)


@batch  # type: ignore[untyped-decorator]
def classify(records: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.generic]]:
    """Classify: verdicts by column, each [n, 1]."""
    columns = predictor.columns(records)
    columns["label"] = names[columns["label"]]
    return {name: column[:, None] for name, column in columns.items()}


if __name__ == "__main__":
    port, _, scratch = sys.argv[1:]
    # Triton's stub must run this very Python, not another one that the system has.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(port), allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config, workspace=f"{scratch}/workspace") as triton:
        triton.bind(
            model_name="iosxr",
            infer_func=classify,
            inputs=[Tensor(name="records", dtype=np.float32, shape=(len(predictor.names),))],
            outputs=[
                Tensor(name="label", dtype=np.bytes_, shape=(1,)),
                Tensor(name="good", dtype=np.bool_, shape=(1,)),
                Tensor(name="distance", dtype=np.float32, shape=(1,)),
                Tensor(name="confidence", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(max_batch_size=MOST),
        )
        # Its monitor would take a pause for a failure, and end it all.
        triton.serve(monitoring_period_s=A_DAY)
