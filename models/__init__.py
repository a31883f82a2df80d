"""What a trained model is: bundle, record schema, encoder, decision rule."""

import os

# Before numpy is loaded: a second thread would wait longer than it works.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Before onnxruntime is: without it, its own wheels report their use to their maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from models.bundle import Bundle, BundleError, Calibration, Class, Manifest
from models.decision import Decisions, NearestCentroid
from models.encoder import Encoder, EncoderError
from models.model import Enrolled, Model, Verdict
from models.names import UNKNOWN
from models.reference import Reference
from models.schema import Field, FieldError, RecordError, Schema

__all__ = [
    "UNKNOWN",
    "Bundle",
    "BundleError",
    "Calibration",
    "Class",
    "Decisions",
    "Encoder",
    "EncoderError",
    "Enrolled",
    "Field",
    "FieldError",
    "Manifest",
    "Model",
    "NearestCentroid",
    "RecordError",
    "Reference",
    "Schema",
    "Verdict",
]
