from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import polars as pl
import pytest

from training.dataset.dataset import Dataset, load_dataset
from training.evaluation.evaluate import Scores
from training.evaluation.few_shot import Draws
from training.evaluation.loss_comparison import LossTrial, Plan
from training.recipe import Recipe, RecipeError
from training.reports import comparison_page
from training.reports.comparison_page import run_comparison

COMMAND = "faultcube compare --recipe r.toml --out x"


def quiet(*_: object) -> None:
    """Report nothing."""


def a_trial(loss: str, seed: int, accuracy: float, one_shot: Mapping[str, Draws]) -> LossTrial:
    scores = Scores(accuracy, 0.5, 0.25, {}, 60)
    return LossTrial(loss, seed, scores, 0.125, (0.5, 0.4), (0.75, 0.875), 0.8125, one_shot)


def draws(macro_f1: float, recall: float) -> Draws:
    return Draws((0.1, 0.0), (macro_f1, 0.2), (recall, 0.3), (0.0, 0.0), None)


@pytest.fixture
def compared(
    small_recipe: Recipe, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Writes the text for trials that are given."""
    monkeypatch.setattr(comparison_page, "load_dataset", lambda _: small_dataset)
    monkeypatch.setattr(comparison_page, "select", lambda *_: None)

    def write(trials: list[LossTrial], recipe: Recipe = small_recipe, **asked: Any) -> str:
        monkeypatch.setattr(comparison_page, "compare", lambda *_: trials)
        files = run_comparison(recipe, Plan(**asked), COMMAND, quiet)
        assert set(files) == {
            "comparison.md",
            "figures/log-curve.png",
            "figures/loss-by-epoch.png",
        }
        return files["comparison.md"].decode()

    return write


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {first: rest for first, *rest in lines}


def test_a_row_has_mean_and_sample_deviation_of_the_seeds_of_a_loss(
    compared: Callable[..., str],
) -> None:
    trials = [a_trial("triplet", 0, 0.8, {}), a_trial("triplet", 1, 0.9, {})]
    rows = rows_of(compared([*trials, a_trial("linear", 0, 0.5, {})], seeds=2))
    assert rows["loss"][:4] == ["accuracy", "balanced accuracy", "macro-F1", "tightness"]
    assert rows["triplet"] == [
        *("0.850 ± 0.071", "0.500 ± 0.000", "0.250 ± 0.000", "0.125 ± 0.000"),
        *("0.875 ± 0.000", "0.812 ± 0.000"),
    ]
    assert rows["linear"][0] == "0.500"
    assert list(rows) == ["loss", "---", "triplet", "linear"]


def test_held_out_classes_add_two_columns_and_the_baselines_that_must_be_beaten(
    compared: Callable[..., str],
) -> None:
    one_shot = {"embedding": draws(0.5, 0.6), "raw": draws(0.3, 0.2), "lda": draws(0.4, 0.1)}
    trials = [a_trial(loss, 0, 0.8, one_shot) for loss in ("lossless", "triplet")]
    text = compared(trials, seeds=1, hold_out=("slow",))
    rows = rows_of(text)
    assert rows["loss"][-2:] == ["1-shot macro-F1", "held-out recall"]
    assert rows["triplet"][-2:] == ["0.500", "0.600"]
    assert rows["raw fields, standardised"] == ["-"] * 6 + ["0.300", "0.200"]
    assert rows["LDA"] == ["-"] * 6 + ["0.400", "0.100"]
    assert "mean of 30 draws" in text


def test_the_header_names_command_recipe_seeds_and_versions(compared: Callable[..., str]) -> None:
    text = compared([a_trial("triplet", 0, 0.8, {})])
    assert f"```sh\n{COMMAND}\n```" in text
    assert "# Losses compared: small" in text
    assert "seeds 0 to 4" in text
    assert "120 train, 60 dev, 60 test; 3 classes" in text
    assert "split by column 'part'" in text
    for name in ("torch", "numpy", "scikit-learn", "faultcube"):
        assert f"{name} {version(name)}" in text
    assert "Warning" not in text
    assert "No animation" in text


def test_few_seeds_and_a_random_split_are_warned_of(
    compared: Callable[..., str],
    small_recipe: Recipe,
    make_recipe: Callable[..., Recipe],
    make_table: Callable[..., pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = [a_trial("triplet", 0, 0.8, {})]
    assert "Warning: seeds are 4, and a comparison needs 5" in compared(trials, seeds=4)
    random = make_recipe(make_table(), split={"by": "random"})
    monkeypatch.setattr(comparison_page, "load_dataset", load_dataset)
    text = compared(trials, recipe=random)
    assert "split at random" in text
    assert "Warning: rows were split at random" in text
    del small_recipe


def test_a_class_that_cannot_be_animated_is_refused_before_any_fit(
    small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_page, "compare", lambda *_: pytest.fail("a fit began"))
    with pytest.raises(RecipeError, match="'fire' cannot be animated"):
        run_comparison(small_recipe, Plan(animate=("fire", "slow")), COMMAND, quiet)


@pytest.mark.usefixtures("short_film")
def test_files_of_a_whole_comparison_say_the_same(small_recipe: Recipe) -> None:
    plan = Plan(losses=("lossless", "contrastive"), seeds=1)
    told: list[str] = []
    files = run_comparison(small_recipe, plan, COMMAND, lambda name, _: told.append(name))
    assert set(files) == {
        "comparison.md",
        "figures/log-curve.png",
        "figures/loss-by-epoch.png",
        "animation.gif",
        "animation.html",
    }
    text = files["comparison.md"].decode()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link in files
    verdicts = re.findall(r"^- (?:Standard|Lossless) triplet loss: (.*)$", text, re.MULTILINE)
    assert len(verdicts) == 2
    page = files["animation.html"].decode()
    for verdict in verdicts:
        assert verdict in page
    assert list(dict.fromkeys(told)) == [
        "lossless",
        "contrastive",
        "film: triplet",
        "film: lossless",
    ]
