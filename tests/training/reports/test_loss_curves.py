from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from training.evaluation.evaluate import Scores
from training.evaluation.loss_comparison import LossTrial
from training.reports.figures import log_curve_figure, loss_by_epoch_figure


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"Software" not in png
    image = np.asarray(matplotlib.image.imread(io.BytesIO(png)))
    assert min(image.shape[:2]) >= 300
    assert image[..., :3].std() > 0.03
    return image


def trial(loss: str, seed: int, losses: list[float]) -> LossTrial:
    shares = tuple(min(1.0, i / len(losses)) for i in range(len(losses)))
    return LossTrial(loss, seed, Scores(0.5, 0.5, 0.5, {}, 60), 0.1, tuple(losses), shares, 0.0, {})


def test_the_shapes_of_the_losses_are_drawn_the_same_every_time() -> None:
    first = log_curve_figure()
    pixels(first)
    assert first == log_curve_figure()


@pytest.mark.parametrize(
    "losses", [[0.5, 0.4, 0.3], [0.5], [0.3, 0.0, 0.0]], ids=["several", "one", "zero"]
)
def test_losses_by_epoch_are_drawn_down_to_zero(losses: list[float]) -> None:
    trials = [trial(loss, seed, losses) for loss in ("lossless", "triplet") for seed in (0, 1)]
    pixels(loss_by_epoch_figure(trials, {"lossless": 0.405}))


def test_other_seeds_give_another_band_and_a_floor_another_line() -> None:
    one, other = trial("triplet", 0, [0.4, 0.1]), trial("triplet", 1, [0.8, 0.3])
    pictures = {
        loss_by_epoch_figure([one], {}),
        loss_by_epoch_figure([one, other], {}),
        loss_by_epoch_figure([one], {"triplet": 0.2}),
    }
    assert len(pictures) == 3
