from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.decision import NearestCentroid
from training.dataset.dataset import Rows
from training.evaluation.evaluate import Evaluation, evaluate
from training.fitting.losses import LosslessTripletLoss
from training.recipe import EncoderRecipe

CLASSES = ("good", "slow", "lossy")
CENTROIDS = np.array([[0.1, 0.1], [0.9, 0.9], [0.1, 0.9]], dtype=np.float32)
GOOD, SLOW, LOSSY = CENTROIDS.tolist()
FAR_GOOD, FAR_SLOW = [0.1, 0.4], [0.7, 0.9]
"""Nearest to good and to slow, but outside their radius."""


@dataclass
class Stub:
    """An encoder whose records are points already."""

    def embed(self, matrix: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        return matrix


def evaluated(
    pairs: list[tuple[list[float], int]],
    *,
    temperature: float = 0.1,
    centroids: Any = CENTROIDS,
    classes: tuple[str, ...] = CLASSES,
    loss: LosslessTripletLoss | None = None,
) -> Evaluation:
    matrix = np.array([point for point, _ in pairs], dtype=np.float32)
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    radii = np.full(len(classes), 0.01, dtype=np.float32)
    rule = NearestCentroid(centroids, radii, temperature)
    rows = Rows(matrix, labels, pl.DataFrame())
    stub: Any = Stub()
    whole = EncoderRecipe(dimensions=matrix.shape[1], members=1, linear=False)
    return evaluate(stub, rule, classes, rows, whole, loss or LosslessTripletLoss())


PAIRS = [
    *[(GOOD, 0)] * 5,
    (FAR_GOOD, 0),  # nearest right, served unknown
    (SLOW, 0),  # false alarm
    (FAR_SLOW, 0),  # nearest wrong, served unknown
    *[(SLOW, 1)] * 3,
    (GOOD, 1),  # missed
    *[(LOSSY, 2)] * 2,
    (SLOW, 2),  # a fault, but another one
    (FAR_GOOD, 2),  # nearest wrong, served unknown
]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluated(PAIRS)


def test_the_confusion_matrix_counts_true_classes_by_verdict(evaluation: Evaluation) -> None:
    assert evaluation.confusion == [[5, 1, 0, 2], [1, 3, 0, 0], [0, 1, 2, 1]]
    assert evaluation.records == 16


def test_nearest_forces_a_class_on_every_record(evaluation: Evaluation) -> None:
    # nearest: good 6 of 8 (2 to slow); slow 3 of 4 (1 to good); lossy 2 of 4 (1 slow, 1 good)
    assert evaluation.nearest.accuracy == pytest.approx(11 / 16)
    assert evaluation.nearest.balanced_accuracy == pytest.approx((6 / 8 + 3 / 4 + 2 / 4) / 3)
    f1 = [2 * 6 / (8 + 8), 2 * 3 / (4 + 6), 2 * 2 / (4 + 2)]
    assert evaluation.nearest.macro_f1 == pytest.approx(np.mean(f1))


def test_served_counts_every_unknown_as_wrong(evaluation: Evaluation) -> None:
    assert evaluation.served.accuracy == pytest.approx(10 / 16)
    assert evaluation.served.balanced_accuracy == pytest.approx((5 / 8 + 3 / 4 + 2 / 4) / 3)
    f1 = [2 * 5 / (8 + 6), 2 * 3 / (4 + 5), 2 * 2 / (4 + 2)]
    assert evaluation.served.macro_f1 == pytest.approx(np.mean(f1))


def test_rates_are_those_of_a_count_by_hand(evaluation: Evaluation) -> None:
    assert evaluation.recall == pytest.approx({"good": 5 / 8, "slow": 3 / 4, "lossy": 2 / 4})
    assert evaluation.false_unknown_rate == pytest.approx(3 / 16)
    assert evaluation.false_unknown_by_class == pytest.approx(
        {"good": 2 / 8, "slow": 0, "lossy": 1 / 4}
    )
    assert evaluation.false_alarm_rate == pytest.approx(3 / 8)
    assert evaluation.missed_fault_rate == pytest.approx(1 / 8)


def test_the_calibration_error_is_the_mean_gap_of_confidence_and_accuracy() -> None:
    pairs = [(GOOD, 0), (GOOD, 0), (GOOD, 1), ([0.1, 0.45], 0), ([0.1, 0.55], 0)]
    temperature = 0.2

    def confidence(point: list[float]) -> float:
        squares = [((np.array(point) - c) ** 2).sum() / 2 for c in CENTROIDS.astype(float)]
        weights = np.exp(-np.array(squares) / temperature)
        return float((weights / weights.sum()).max())

    # Two bins: the three at the centroid (2 of 3 right), the two in between (1 of 2 right).
    sure, unsure = confidence(GOOD), [confidence([0.1, 0.45]), confidence([0.1, 0.55])]
    assert int(sure * 15) not in {int(each * 15) for each in unsure}
    assert len({int(each * 15) for each in unsure}) == 1
    expected = (abs(2 - 3 * sure) + abs(1 - sum(unsure))) / 5
    assert evaluated(pairs, temperature=temperature).calibration_error == pytest.approx(
        expected, rel=1e-4
    )


def test_certain_and_right_has_no_calibration_error_and_certain_and_wrong_has_all() -> None:
    right, wrong = [(GOOD, 0), (SLOW, 1)], [(GOOD, 1), (SLOW, 0)]
    assert evaluated(right, temperature=1e-3).calibration_error == pytest.approx(0, abs=1e-6)
    assert evaluated(wrong, temperature=1e-3).calibration_error == pytest.approx(1, abs=1e-6)


def test_tightness_is_own_distance_over_distance_between_centroids(
    evaluation: Evaluation,
) -> None:
    own = [((np.array(p) - CENTROIDS[label]) ** 2).sum() / 2 for p, label in PAIRS]
    between = [((a - b) ** 2).sum() / 2 for a, b in combinations(CENTROIDS.astype(float), 2)]
    assert evaluation.tightness == pytest.approx(np.mean(own) / np.mean(between), rel=1e-5)


CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float32)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_best_corners_have_no_excess_loss_however_unequal_the_classes(classes: int) -> None:
    corners = CORNERS if classes > 2 else np.array([[0, 0, 0], [1, 1, 1]], dtype=np.float32)
    names = ("good", "a", "b", "c")[:classes]
    pairs = [(corners[c].tolist(), c) for c in range(classes) for _ in range(2 + 9 * c)]
    result = evaluated(pairs, centroids=corners[:classes], classes=names)
    assert result.excess_loss == pytest.approx(0, abs=1e-3)
    assert result.loss == pytest.approx(LosslessTripletLoss.floor(classes), abs=1e-3)
    assert result.tightness == 0
    assert result.served.macro_f1 == 1


@pytest.mark.parametrize("factor", [1.0, 1.5, 3.0])
def test_excess_loss_is_zero_at_the_best_corners_whatever_beta_is(factor: float) -> None:
    pairs = [(CORNERS[c].tolist(), c) for c in range(4) for _ in range(5)]
    result = evaluated(
        pairs,
        centroids=CORNERS,
        classes=("good", "a", "b", "c"),
        loss=LosslessTripletLoss(beta=3 * factor),
    )
    assert result.excess_loss == pytest.approx(0, abs=1e-3)


def test_the_loss_is_that_of_class_balanced_batches() -> None:
    # one point a class, so that every balanced batch has the same loss, worked out by hand
    pairs = [(GOOD, 0)] * 9 + [(SLOW, 1)] * 3 + [(LOSSY, 2)]
    d = [2 * 0.64, 0.64, 0.64]  # good-slow, good-lossy, slow-lossy
    expected = np.mean([-math.log(each / 2) for each in d])
    assert evaluated(pairs).loss == pytest.approx(expected, abs=1e-3)


def test_a_class_without_records_is_absent_and_counts_nowhere() -> None:
    result = evaluated([(GOOD, 0), (GOOD, 0), (SLOW, 1), (GOOD, 1)])
    assert set(result.recall) == set(result.false_unknown_by_class) == {"good", "slow"}
    assert result.served.balanced_accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert result.served.macro_f1 == pytest.approx((2 * 2 / (2 + 3) + 2 / (2 + 1)) / 2)
    assert result.confusion[2] == [0, 0, 0, 0]


@pytest.mark.parametrize(("label", "point"), [(0, GOOD), (1, SLOW)])
def test_records_of_one_class_alone_can_be_evaluated(label: int, point: list[float]) -> None:
    result = evaluated([(point, label)] * 3)
    assert result.served.accuracy == 1
    assert (result.loss, result.excess_loss) == (0, 0)
    assert (result.false_alarm_rate, result.missed_fault_rate) == (0, 0)


def test_as_json_is_plain_and_rounded(evaluation: Evaluation) -> None:
    content = evaluation.as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["served"]["balanced_accuracy"] == round((5 / 8 + 3 / 4 + 2 / 4) / 3, 6)
    assert content["recall"] == {"good": 0.625, "slow": 0.75, "lossy": 0.5}
    assert content["confusion"] == evaluation.confusion
