"""Whether trees are a member of the cube, and which: by records that no part of a fit saw."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from training.dataset.dataset import Rows
from training.fitting.calibration import Distances, HeldOut, Space, is_worth_it
from training.fitting.encoder import Encoder
from training.fitting.fit import embed
from training.recipe import Growth, Trees

_VARIANTS: dict[Trees, tuple[Growth | None, ...]] = {
    "auto": (None, "random", "boosted"),
    "random": ("random",),
    "boosted": ("boosted",),
    "no": (None,),
}
"""What is measured, by the word of the recipe."""


@dataclass(frozen=True, slots=True)
class ForestChoice:
    """Which trees are taken, if any, and why."""

    growth: Growth | None
    note: str  # a line for the terminal and the card; empty if there was nothing to choose


def measure_variants(
    encoder: Encoder, train: Rows, held_out: Rows, trees: Trees, seed: int
) -> list[Distances]:
    """Measure held-out records without trees, and with each kind that the recipe asks for.

    Args:
        encoder: fitted to the training rows, without trees.
        train: labels are 0..K-1.
        held_out: records that it never saw.
        trees: the word of the recipe.
        seed: of the trees.

    Returns:
        Distances [n, K] of each variant, in the order in which `choose_forest` wants them.
    """
    measured = []
    for growth in _VARIANTS[trees]:
        variant = encoder
        if growth is not None:
            variant = copy.deepcopy(encoder)
            variant.grow(train.matrix, train.labels, growth, seed)
        space = Space.of(partial(embed, variant), train)
        measured.append(space.measure(embed(variant, held_out.matrix)))
    return measured


def choose_forest(measured: Sequence[HeldOut], trees: Trees) -> tuple[ForestChoice, HeldOut]:
    """Decide, and return what is measured of the variant that is taken.

    Args:
        measured: held-out records by each variant that the recipe asks for.
        trees: the word of the recipe.
    """
    variants = _VARIANTS[trees]
    if len(variants) == 1:
        return ForestChoice(variants[0], ""), measured[0]
    without, random, boosted = scores = [held_out.macro_f1 for held_out in measured]
    best = scores.index(max(scores))
    if not is_worth_it(without, scores[best]):  # they take time with every record
        best = 0
    taken = variants[best]
    note = (
        f"{taken or 'no'} trees are a member of the cube: macro-F1 on records left out is "
        f"{random:.3f} with random ones, {boosted:.3f} with boosted ones, {without:.3f} without"
    )
    return ForestChoice(taken, note), measured[best]
