"""How much the share of a class counts: by records that no part of a fit saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.dataset.dataset import Labels
from training.fitting.calibration import HeldOut, Shares, fit_temperature, is_worth_it
from training.recipe import Prior

WEIGHTS = (1.0, 0.5, 0.25)
"""Of the logarithm of a share. All of it is right for traffic that is made up as the training rows
are, and gives up a class that is rare there and common elsewhere."""


@dataclass(frozen=True, slots=True)
class PriorChoice:
    """How much shares count, and why."""

    weight: float  # 1 in full, 0 not at all
    note: str  # a line for the terminal and the card; empty if there was nothing to choose

    def apply(self, shares: Shares) -> Shares | None:
        """Return the shares that the rule is to know, [classes]; None for no prior at all."""
        if not self.weight:
            return None
        weighted = shares**self.weight
        counted: Shares = weighted * (shares.sum() / weighted.sum())
        return counted


def shares_of(
    labels: Labels, fault_share: float | None = None, weights: Sequence[float] = ()
) -> Shares:
    """Return the share of each class, 0..K-1, among the records.

    Args:
        labels: of the records; class 0 is good traffic.
        fault_share: the share of all faults together, where the records do not show it.
        weights: of a record of each class, where they are a sample; classes beyond have no record.
    """
    counts = np.bincount(labels).astype(np.float64)
    if weights:
        counts *= weights[: len(counts)]
    if fault_share is not None:
        counts[1:] *= fault_share / counts[1:].sum()
        counts[0] = 1 - fault_share
    shares: Shares = counts / counts.sum()
    return shares


def choose_prior(held_out: HeldOut, shares: Shares, prior: Prior) -> PriorChoice:
    """Decide how much shares count.

    Args:
        held_out: records that calibrate the rule.
        shares: of each class, [classes].
        prior: all of it, nothing, or `auto`: less than all only where that brings a tenth of what
            macro-F1 of the held-out records lacks to 1.
    """
    if prior != "auto":
        return PriorChoice(float(prior), "")
    scores = {weight: _macro_f1(held_out, shares, weight) for weight in WEIGHTS}
    best = max(WEIGHTS, key=scores.__getitem__)
    if not is_worth_it(scores[1.0], scores[best]):  # all of it raises the fewest false alarms
        best = 1.0
    note = "in full" if best == 1 else f"by {best:g}"
    others = ", ".join(f"{score:.3f} with {weight:g}" for weight, score in scores.items())
    return PriorChoice(
        best,
        f"the logarithm of a class's share counts {note}: macro-F1 on records left out is {others}",
    )


def _macro_f1(held_out: HeldOut, shares: Shares, weight: float) -> float:
    _, expected = fit_temperature(held_out, PriorChoice(weight, "").apply(shares))
    return HeldOut(expected, held_out.labels).macro_f1
