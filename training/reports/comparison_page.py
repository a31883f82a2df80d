"""Write a comparison of losses as files: a table, figures, and an animation."""

import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version

from training.dataset.dataset import Dataset, load_dataset
from training.evaluation.loss_comparison import DRAWS, LossTrial, Plan, Report, compare
from training.fitting.losses import LosslessTripletLoss
from training.recipe import EncoderRecipe, Recipe
from training.reports.animation import as_gif, as_page
from training.reports.animation_data import Animation, record, select
from training.reports.figures import log_curve_figure, loss_by_epoch_figure
from training.reports.model_card import table

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
    """Compare losses, and return files by name; comparison.md is the one to read first.

    `command` is the command that reproduces them; it goes into the files.

    Raises:
        RecipeError: the recipe, its table or the plan cannot be used.
    """
    dataset = load_dataset(recipe).fitted
    selection = select(recipe, dataset, plan.animate)
    trials = compare(recipe, dataset, plan, report)
    animation = record(selection, report, plan.jobs) if selection else None
    n = recipe.encoder.dimensions
    floor = LosslessTripletLoss.floor(len(dataset.classes), (recipe.fit.beta or n) / n)
    files = {
        "comparison.md": _text(recipe, plan, dataset, trials, animation, command).encode(),
        "figures/log-curve.png": log_curve_figure(),
        "figures/loss-by-epoch.png": loss_by_epoch_figure(trials, {"lossless": floor}),
    }
    if animation:
        files["animation.gif"] = as_gif(animation)
        files["animation.html"] = as_page(animation, command).encode()
    return files


def _text(
    recipe: Recipe,
    plan: Plan,
    dataset: Dataset,
    trials: Sequence[LossTrial],
    animation: Animation | None,
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
        _results(trials),
        _COLUMNS.strip() + (_ONE_SHOT.rstrip() if plan.hold_out else ""),
        "![Loss and share of triplets without loss, by epoch](figures/loss-by-epoch.png)",
        "![What a positive costs under each loss](figures/log-curve.png)",
        _animation(animation),
    ]
    return "\n\n".join(sections) + "\n"


def _header(recipe: Recipe, plan: Plan, dataset: Dataset) -> str:
    first, split, fit = recipe.fit.seed, recipe.split, recipe.fit
    rows = ", ".join(f"{len(rows)} {part}" for part, rows in dataset.parts.items())
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


def _results(trials: Sequence[LossTrial]) -> str:
    held_out = bool(trials[0].one_shot)
    header = ["loss", "accuracy", "balanced accuracy", "macro-F1", "tightness"]
    header += ["zero loss", "zero gradient"]
    columns = len(header) - 1
    header += ["1-shot macro-F1", "held-out recall"] if held_out else []
    rows = []
    for name in dict.fromkeys(trial.loss for trial in trials):
        of_loss = [trial for trial in trials if trial.loss == name]
        cells = _means([_numbers(trial) for trial in of_loss])
        rows.append([name, *cells, *(_one_shot(of_loss, "embedding") if held_out else [])])
    if held_out:  # the baselines are the same under every loss
        of_loss = [trial for trial in trials if trial.loss == trials[0].loss]
        for space, name in _BASELINES.items():
            rows.append([name, *["-"] * columns, *_one_shot(of_loss, space)])
    return table(header, rows)


def _numbers(trial: LossTrial) -> tuple[float, ...]:
    return *trial.scores.overall, trial.tightness, trial.zero_loss[-1], trial.zero_gradient


def _one_shot(trials: Sequence[LossTrial], space: str) -> list[str]:
    draws = [trial.one_shot[space] for trial in trials]
    return _means([(draw.macro_f1[0], draw.held_out_recall[0]) for draw in draws])


def _means(rows: Sequence[Sequence[float]]) -> list[str]:
    """Return mean and standard deviation of each column."""
    cells = []
    for values in zip(*rows, strict=True):
        mean = f"{statistics.fmean(values):.3f}"
        more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(mean + more)
    return cells


def _animation(animation: Animation | None) -> str:
    if animation is None:
        return "No animation: it takes two fault classes with test rows."
    recipe = animation.selection.recipe
    good, *faults = animation.selection.dataset.classes
    lines = "\n".join(f"- {side.title}: {side.verdict}" for side in animation.recordings)
    return (
        "## Epoch by epoch in a cube of three dimensions\n\n"
        "![Test rows in the cube while it learns: standard triplet loss left, lossless right]"
        "(animation.gif)\n\n"
        f"Good traffic {good!r} and the faults {faults[0]!r} and {faults[1]!r}; "
        f"{_encoder(recipe.encoder)}, seed {recipe.fit.seed}. [animation.html](animation.html) is "
        f"the same to play and to turn.\n\n{lines}"
    )
