"""Decisions and a model's names, made up for tests of what is written."""

from __future__ import annotations

from types import MethodType, SimpleNamespace
from typing import Any, cast

import numpy as np

from models import Decisions, Model
from models.decision import NearestCentroid


def named(names: list[str], good: list[bool]) -> Model:
    """As much of a model as writers ask for."""
    manifest = SimpleNamespace(name="toy", version="abc")
    model = SimpleNamespace(names=names, good=good, manifest=manifest)
    model.are_good = MethodType(Model.are_good, model)
    return cast("Model", model)


def decided(distances: Any = None, nearest: Any = (0, 1, 2, 1)) -> Decisions:
    """Two records that are accepted, and two that are unknown."""
    return Decisions(
        np.array(nearest),
        np.array([True, True, False, False]),
        np.array([0.25, 0.5, 0.75, 1], np.float32),
        np.array([1, 0.5, 0.25, 0.125], np.float32),
        cast("NearestCentroid", None),
        distances,
    )
