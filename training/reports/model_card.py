"""Write the model card: what a model is, its results and its limits, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.decision import NearestCentroid
from models.names import UNKNOWN
from models.reference import MOST, REFERENCE
from training.dataset.dataset import Dataset, Labels
from training.evaluation.evaluate import Evaluation
from training.evaluation.operations import Operations
from training.recipe import EncoderRecipe, Recipe
from training.reports.plain_words import in_words, series_rows, terms, verdict_on_data


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What radii and confidence were calibrated with."""

    how: str  # the start of a sentence
    labels: Labels  # [n], of the records


def write_card(
    recipe: Recipe,
    dataset: Dataset,
    rule: NearestCentroid,
    evaluation: Evaluation,
    backtests: Mapping[str, Evaluation],
    calibrated: Calibrated,
    choices: Sequence[str],
) -> str:
    """Write the card, from measured values only.

    `choices` say which parts the encoder took and what they brought, a line each.
    """
    sections = [
        f"# Model card: {recipe.name}",
        *_expectations(evaluation.operations),
        "## The model",
        recipe.about.strip(),
        _use(recipe, dataset, rule),
        "## Results on the test rows",
        _results({"this bundle": evaluation, **backtests}),
        _reading(recipe, evaluation),
        "![confusion matrix](figures/confusion.png)",
        "## Classes",
        _classes(dataset, rule, evaluation),
        "![distances](figures/distances.png)",
        "![embedding](figures/embedding.png)",
        "## Fit",
        _fit(recipe, dataset, calibrated.how, choices),
        "![history](figures/history.png)",
        "## Limits",
        _limits(recipe, dataset, calibrated.labels),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, without a line feed at its end."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str) -> str:
    """Return a name from a table as code, whatever characters it has."""
    plain = "".join(char if char.isprintable() else " " for char in name)
    return "`" + plain.replace("`", "'").replace("|", "\\|") + "`"


def _use(recipe: Recipe, dataset: Dataset, rule: NearestCentroid) -> str:
    faults = ", ".join(_code(name) for name in dataset.classes[1:])
    return (
        f"It tells good traffic ({_code(recipe.good)}) from {faults}, by the nearest centroid in a "
        f"cube of {rule.centroids.shape[1]} dimensions, and answers `{UNKNOWN}` when that class "
        f"does not accept the record. A record has {len(dataset.schema)} fields."
    )


def _expectations(operations: Operations) -> list[str]:
    """Return what an operator would see of the model, and how well that is known."""
    sentences = "\n".join(f"- {sentence}" for sentence in in_words(operations, _code))
    sections = [
        "On the test rows, which it has not learned from:",
        sentences,
        verdict_on_data(operations, _code),
    ]
    if operations.series:
        header = [" / ".join(map(_code, operations.values)), "good records", "false alarms"]
        rows = series_rows(operations, _code)
        sections.append(table([*header, "in 1,000", "episodes"], rows))
    if {"series", "time"} - set(operations.missing):
        sections.append(terms(operations))
    if "time" not in operations.missing:
        sections.append("![faults and alarms over time](figures/timeline.png)")
    return sections


def _results(evaluations: Mapping[str, Evaluation]) -> str:
    header = ["split", "rows", "verdicts", "accuracy", "balanced accuracy", "macro-F1"]
    header += ["false unknown", "calibration error", "excess loss", "tightness"]
    header += ["false alarms", "events found"]
    rows = []
    for name, e in evaluations.items():
        others = e.false_unknown_rate, e.calibration_error, e.excess_loss, e.tightness
        events = e.operations.events
        found = f"{events.found} of {events.total}" if events else "-"
        alarms = *_digits([e.false_alarm_rate]), found
        rows.append([name, str(e.records), "nearest class", *_digits(e.nearest.overall), *[""] * 6])
        rows.append(["", "", "as served", *_digits(e.served.overall + others), *alarms])
    return table(header, rows)


def _digits(numbers: Sequence[float]) -> list[str]:
    return [f"{number:.3f}" for number in numbers]


def _reading(recipe: Recipe, evaluation: Evaluation) -> str:
    return (
        "*Nearest class* forces a known class, as other classifiers do; *as served* counts every "
        f"`{UNKNOWN}` as wrong. The radii promise that at most {100 * recipe.unknown_rate:g}% of "
        "the records of known classes are called unknown as long as traffic stays like the "
        f"calibration rows; on these test rows it was {evaluation.false_unknown_rate:.1%}. "
        f"Of good records {evaluation.false_alarm_rate:.1%} raised an alarm (a fault or unknown), "
        f"of faults {evaluation.missed_fault_rate:.1%} were called good. Excess loss is the "
        "lossless triplet loss of the learned dimensions over the floor that geometry sets for "
        "this many classes: at 0 every class is a point, as far from the others as the cube "
        "allows. Tightness is the mean distance to the own centroid over the mean distance between "
        "centroids."
    )


def _classes(dataset: Dataset, rule: NearestCentroid, evaluation: Evaluation) -> str:
    header = ["class", "train", "dev", "test", "radius", "recall as served", "called unknown"]
    rows = []
    for c, name in enumerate(dataset.classes):
        counts = [str(int((rows.labels == c).sum())) for rows in dataset.parts.values()]
        by_class = (evaluation.recall, evaluation.false_unknown_by_class)
        shares = [f"{share[name]:.3f}" if name in share else "-" for share in by_class]
        shown = _code(name)
        if name in dataset.carried:
            known = int((dataset.known.labels == c).sum())
            shown += f" (known from {known} record{'s' * (known > 1)}, carried as enrolled)"
        rows.append([shown, *counts, f"{rule.radii[c]:.4f}", *shares])
    return table(header, rows)


def _fit(recipe: Recipe, dataset: Dataset, calibration: str, choices: Sequence[str]) -> str:
    dropped = "\n".join(f"- {_code(name)}: {why}" for name, why in dataset.dropped.items())
    notes = "\n".join(f"- {note}" for note in dataset.notes)
    split = recipe.split
    by = f"by {split.by} `{split.column}`" if split.column else "at random, label by label"
    within = f" within `{split.within}`" if split.within else ""
    count = len(dataset.dev)
    reference = "the dev rows" if count <= MOST else f"{MOST} of the {count} dev rows"
    return (
        f"{_loss(recipe)} over all triplets of class-balanced batches of {recipe.fit.batch}, "
        f"{recipe.fit.epochs} epochs of {recipe.fit.steps}; {_shape(recipe.encoder)}; seed "
        f"{recipe.fit.seed}. Rows split {by}{within}; {calibration}. Test rows chose nothing. "
        f"{_prior(recipe)} "
        f"`{REFERENCE}` holds {reference} as raw records, for later ones to be compared with."
        + "".join(f"\n\n{choice}." for choice in choices)
        + (f"\n\nColumns that are no fields:\n\n{dropped}" if dropped else "")
        + (f"\n\nNotes:\n\n{notes}" if notes else "")
    )


def _prior(recipe: Recipe) -> str:
    if not recipe.prior:
        return "Every class counts alike, however rare it is."
    if recipe.fault_share is None:
        return "A class counts by its share of these rows; one that is enrolled later does not."
    return f"Faults count as {recipe.fault_share:g} of all records, as the recipe says."


def _loss(recipe: Recipe) -> str:
    if recipe.fit.loss != "lossless":
        return f"The {recipe.fit.loss} loss"
    beta = recipe.fit.beta or recipe.encoder.dimensions
    return f"Lossless triplet loss (beta = {beta:g}, epsilon = {recipe.fit.epsilon:g})"


def _shape(encoder: EncoderRecipe) -> str:
    members = f"{encoder.members} perceptrons" if encoder.members > 1 else "a perceptron"
    linear = ", and the whitened fields beside them" if encoder.linear else ""
    return (
        f"{members} of hidden layers {list(encoder.hidden)} to {encoder.dimensions} dimensions "
        f"each, gain {encoder.gain:g}{linear}"
    )


def _limits(recipe: Recipe, dataset: Dataset, calibrated: Labels) -> str:
    enough = math.ceil((1 - recipe.unknown_rate) / recipe.unknown_rate - 1e-9)
    few = [
        f"{_code(name)} ({count})"
        for c, name in enumerate(dataset.classes)
        if (count := int((calibrated == c).sum())) < enough and name not in dataset.carried
    ]
    text = (
        "- It knows the network, devices and load it was trained on; elsewhere, measure first.\n"
        "- Neighbouring records of one event are much alike: the rows count for less than as many "
        "independent ones would."
    )
    if few:
        text += (
            f"\n- Too few calibration rows for a promise of their own ({enough} needed), so that "
            f"the radius may be borrowed from all classes: {', '.join(few)}."
        )
    return text
