from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import matplotlib.image
import numpy as np
import pytest

from models.bundle import Bundle
from models.decision import NearestCentroid
from training.evaluation.evaluate import Evaluation
from training.fitting.fit import Epoch
from training.recipe import Recipe
from training.reports import figures
from training.reports.figures import confusion_figure
from training.train import Fitted

PNG = b"\x89PNG\r\n\x1a\n"
CENTROIDS = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.2], [0.1, 0.9, 0.8]], dtype=np.float32)
NAMES = ("good", "slow", "a_class_with_quite_a_long_name_for_a_label")


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert png.startswith(PNG)
    return np.asarray(matplotlib.image.imread(io.BytesIO(png)))


def rule(classes: int, radius: float = 0.05) -> NearestCentroid:
    return NearestCentroid(CENTROIDS[:classes], np.full(classes, radius, np.float32), 0.1)


def points(classes: int, each: int = 30) -> tuple[Any, Any]:
    labels = np.repeat(np.arange(classes), each)
    noise = np.random.default_rng(0).normal(0, 0.03, (len(labels), 3))
    return np.clip(CENTROIDS[labels] + noise, 0.001, 0.999).astype(np.float32), labels


def test_the_bundle_carries_five_figures_that_show_something(
    real_trained: tuple[Recipe, Bundle, Fitted],
) -> None:
    files = {n: d for n, d in real_trained[1].files.items() if n.startswith("figures/")}
    assert sorted(files) == [
        "figures/confusion.png",
        "figures/distances.png",
        "figures/embedding.png",
        "figures/history.png",
        "figures/timeline.png",
    ]
    for data in files.values():
        image = pixels(data)
        assert min(image.shape[:2]) >= 200
        assert image[..., :3].std() > 0.05
        assert b"Software" not in data


@pytest.mark.parametrize("classes", [2, 3])
def test_the_embedding_is_drawn_for_two_classes_as_for_more(classes: int) -> None:
    embeddings, labels = points(classes)
    image = pixels(figures.embedding_figure(embeddings, labels, rule(classes), NAMES[:classes]))
    assert image[..., :3].std() > 0.02


def test_a_class_without_test_rows_is_drawn_by_its_centroid_alone() -> None:
    embeddings, labels = points(2)
    assert pixels(figures.embedding_figure(embeddings, labels, rule(3), NAMES)).size
    distances = rule(3).decide(embeddings).distances
    assert pixels(figures.distances_figure(distances, labels, rule(3), NAMES)).size


def test_distances_of_zero_can_be_drawn_on_a_logarithmic_axis() -> None:
    labels = np.arange(3)
    distances = rule(3).decide(CENTROIDS).distances
    assert pixels(figures.distances_figure(distances, labels, rule(3), NAMES)).size


@pytest.mark.parametrize("excess", [0.5, 0.0, -0.1])
def test_a_single_epoch_has_a_history(excess: float) -> None:
    assert pixels(figures.history_figure([Epoch(1, 0.4 + excess, excess, 0.9)])).size


def test_the_same_numbers_give_the_same_picture() -> None:
    embeddings, labels = points(3, each=500)
    first, second = (figures.embedding_figure(embeddings, labels, rule(3), NAMES) for _ in range(2))
    assert first == second


def test_other_numbers_give_another_picture() -> None:
    history = [Epoch(n, 1 / n, 1 / n, 1 - 1 / n) for n in range(1, 5)]
    assert figures.history_figure(history) != figures.history_figure(history[:3])


def test_three_hundred_classes_still_make_a_figure_of_bounded_size() -> None:
    classes = tuple(f"class {c}" for c in range(300))
    evaluation = SimpleNamespace(confusion=np.eye(300, 301, dtype=int).tolist())
    png = confusion_figure(cast("Evaluation", evaluation), classes)
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    assert max(width, height) <= 2200


def test_class_names_are_never_drawn_as_formulas() -> None:
    embeddings, labels = points(3)
    names, at = ("a$b{$c", "$", "$x$"), rule(3)
    distances = at.decide(embeddings).distances
    evaluation = cast(Evaluation, SimpleNamespace(confusion=np.eye(3, 4, dtype=int).tolist()))
    assert pixels(figures.embedding_figure(embeddings, labels, at, names)).size
    assert pixels(figures.distances_figure(distances, labels, at, names)).size
    assert pixels(confusion_figure(evaluation, names)).size
