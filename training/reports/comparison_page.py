"""A comparison of losses as files: a table, figures, and an animation."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version

from training.dataset.dataset import Dataset, load_dataset
from training.evaluation.loss_comparison import DRAWS, Plan, Report, Trial, compare
from training.fitting.losses import LosslessTripletLoss
from training.recipe import EncoderRecipe, Recipe
from training.reports.animation import as_gif, as_page
from training.reports.animation_data import Film, shoot, stage
from training.reports.loss_curves import log_curve_figure, loss_by_epoch_figure

__all__ = ["run_comparison"]

_ENOUGH_SEEDS = 5
_LIBRARIES = ("faultcube", "torch", "scikit-learn", "numpy")
_BASELINES = {"raw": "raw fields, standardised", "lda": "LDA"}
_COLUMNS = """
- *Accuracy*, *balanced accuracy* and *macro-F1* are of the test rows by nearest centroid.
- *Tightness* is the mean distance of test rows to their own centroid over the mean distance between
  centroids: less is tighter.
- *Zero loss* is the share of triplets that cost exactly 0, *zero gradient* the share of those
  whose derivative is exactly 0 in all three embeddings, both over class-balanced batches of
  training rows after the last epoch, in the dimensions that the loss has learned. For the
  contrastive loss, whose value is made of pairs, both are shares of pairs.
"""
_ONE_SHOT = f"""
- *1-shot macro-F1* and *held-out recall* are of a second fit that never saw the held-out classes,
  which are then enrolled from one record each; a seed's value is the mean of {DRAWS} draws. A
  learned embedding has to beat raw fields and linear discriminant analysis (LDA) there.
"""


def run_comparison(recipe: Recipe, plan: Plan, command: str, report: Report) -> dict[str, bytes]:
    """Compare losses.

    Args:
        recipe: the table and how to fit.
        plan: what is compared.
        command: what to type for the same again; goes into the files.
        report: told of every epoch.

    Returns:
        Files by name; comparison.md is the one to read first.

    Raises:
        RecipeError: the recipe, its table or the plan will not do.
    """
    dataset = load_dataset(recipe)
    scene = stage(recipe, dataset, plan.animate)
    trials = compare(recipe, dataset, plan, report)
    film = shoot(scene, report, plan.jobs) if scene else None
    n = recipe.encoder.dimensions
    floor = LosslessTripletLoss.floor(len(dataset.classes), (recipe.fit.beta or n) / n)
    text = _write(recipe, plan, dataset, trials, film, command)
    files = {
        "comparison.md": text.encode(),
        "figures/log-curve.png": log_curve_figure(),
        "figures/loss-by-epoch.png": loss_by_epoch_figure(trials, {"lossless": floor}),
    }
    if film:
        files["animation.gif"] = as_gif(film)
        files["animation.html"] = as_page(film, command).encode()
    return files


def _write(
    recipe: Recipe,
    plan: Plan,
    dataset: Dataset,
    trials: Sequence[Trial],
    film: Film | None,
    command: str,
) -> str:
    warnings = [f"Warning: {note}." for note in dataset.notes]
    if plan.seeds < _ENOUGH_SEEDS:
        warnings.append(
            f"Warning: seeds are {plan.seeds}, and a comparison needs {_ENOUGH_SEEDS} or more; "
            "differences may be luck."
        )
    sections = [
        f"# Losses compared: {recipe.name}",
        f"```sh\n{command}\n```",
        _header(recipe, plan, dataset),
        *warnings,
        _table(trials),
        _COLUMNS.strip() + (_ONE_SHOT.rstrip() if plan.hold_out else ""),
        "![Loss and share of triplets without loss, by epoch](figures/loss-by-epoch.png)",
        "![What a positive costs under each loss](figures/log-curve.png)",
        _animation(film) if film else "No animation: it takes two fault classes with test rows.",
    ]
    return "\n\n".join(sections) + "\n"


def _header(recipe: Recipe, plan: Plan, dataset: Dataset) -> str:
    first, split, fit = recipe.fit.seed, recipe.split, recipe.fit
    rows = ", ".join(f"{len(getattr(dataset, p).labels)} {p}" for p in ("train", "dev", "test"))
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    by = f"by {split.by} {split.column!r}" if split.column else "at random"
    seeds = f"seeds {first} to {first + plan.seeds - 1}" if plan.seeds > 1 else f"seed {first}"
    return (
        f"Recipe {recipe.name}, rows split {by} ({rows}; {len(dataset.classes)} classes); the same "
        f"encoder ({_encoder(recipe.encoder)}) and budget ({fit.epochs} epochs of {fit.steps} "
        f"batches of {fit.batch}) under each loss; {seeds}, mean ± standard deviation over them. "
        f"{versions}, Python {platform.python_version()}."
    )


def _encoder(shape: EncoderRecipe) -> str:
    linear = ", and whitened fields, which no loss changes" if shape.linear else ""
    return (
        f"{shape.members} x N = {shape.dimensions}{linear}, hidden layers {list(shape.hidden)}, "
        f"gain {shape.gain:g}"
    )


def _table(trials: Sequence[Trial]) -> str:
    columns: dict[str, Callable[[Trial], float]] = {
        "accuracy": lambda trial: trial.scores.accuracy,
        "balanced accuracy": lambda trial: trial.scores.balanced_accuracy,
        "macro-F1": lambda trial: trial.scores.macro_f1,
        "tightness": lambda trial: trial.tightness,
        "zero loss": lambda trial: trial.zero_loss[-1],
        "zero gradient": lambda trial: trial.zero_gradient,
    }
    held_out = bool(trials[0].one_shot)
    header = ["loss", *columns, *(["1-shot macro-F1", "held-out recall"] if held_out else [])]
    rows = [header, ["---"] * len(header)]
    for name in dict.fromkeys(trial.loss for trial in trials):
        mine = [trial for trial in trials if trial.loss == name]
        cells = [_mean([column(trial) for trial in mine]) for column in columns.values()]
        rows.append([name, *cells, *(_one_shot(mine, "embedding") if held_out else [])])
    if held_out:
        mine = [trial for trial in trials if trial.loss == trials[0].loss]
        for space, name in _BASELINES.items():
            rows.append([name, *["-"] * len(columns), *_one_shot(mine, space)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _one_shot(trials: Sequence[Trial], space: str) -> list[str]:
    draws = [trial.one_shot[space] for trial in trials]
    scores = ([each.macro_f1[0] for each in draws], [each.held_out_recall[0] for each in draws])
    return [_mean(values) for values in scores]


def _mean(values: Sequence[float]) -> str:
    shown = f"{statistics.fmean(values):.3f}"
    return f"{shown} ± {statistics.stdev(values):.3f}" if len(values) > 1 else shown


def _animation(film: Film) -> str:
    good, *faults = film.scene.dataset.classes
    encoder, seed = _encoder(film.scene.recipe.encoder), film.scene.recipe.fit.seed
    lines = "\n".join(f"- {side.title}: {side.verdict}" for side in film.sides)
    return (
        "## Epoch by epoch in a cube of three dimensions\n\n"
        "![Test rows in the cube while it learns: standard triplet loss left, lossless right]"
        "(animation.gif)\n\n"
        f"Good traffic {good!r} and the faults {faults[0]!r} and {faults[1]!r}; {encoder}, seed "
        f"{seed}. [animation.html](animation.html) is the same to play and to turn.\n\n{lines}"
    )
