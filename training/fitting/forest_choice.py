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

Variant = Growth | None
"""Trees of a kind, or none."""


@dataclass(frozen=True, slots=True)
class ForestChoice:
    """Which trees are taken, if any, and why."""

    growth: Variant
    note: str  # a line for the terminal and the card; empty if there was nothing to choose


def variants_of(trees: Trees, *, grouped: bool) -> tuple[Variant, ...]:
    """Return what is to be measured.

    Boosted trees fit what is alike only because it was recorded together, and records held out that
    may be neighbours of training records speak for them all the same. On other devices they can do
    harm: so nothing but records of other groups may choose them.

    Args:
        trees: the word of the recipe.
        grouped: whether the held-out records are of other devices, events or runs.
    """
    if trees == "auto":
        return (None, "random", "boosted") if grouped else (None, "random")
    return (None if trees == "no" else trees,)


def measure_variants(
    encoder: Encoder, train: Rows, held_out: Rows, variants: Sequence[Variant], seed: int
) -> list[Distances]:
    """Measure held-out records by the encoder as it is, and with trees.

    Args:
        encoder: fitted to the training rows, without trees.
        train: labels are 0..K-1.
        held_out: records that it never saw.
        variants: which trees.
        seed: of the trees.

    Returns:
        Distances [n, K] of each variant.
    """
    measured = []
    for growth in variants:
        variant = encoder
        if growth is not None:
            variant = copy.deepcopy(encoder)
            variant.grow(train.matrix, train.labels, growth, seed)
        space = Space.of(partial(embed, variant), train)
        measured.append(space.measure(embed(variant, held_out.matrix)))
    return measured


def choose_forest(
    measured: Sequence[HeldOut], variants: Sequence[Variant]
) -> tuple[ForestChoice, HeldOut]:
    """Decide, and return what is measured of the variant that is taken.

    Args:
        measured: held-out records by each variant.
        variants: which trees; the first of several has none.
    """
    if len(variants) == 1:
        return ForestChoice(variants[0], ""), measured[0]
    scores = [held_out.macro_f1 for held_out in measured]
    best = scores.index(max(scores))
    if not is_worth_it(scores[0], scores[best]):  # they take time with every record
        best = 0
    taken = variants[best]
    grown = [f"{score:.3f} with {kind} ones" for kind, score in zip(variants, scores, strict=True)]
    note = (
        f"{taken or 'no'} trees are a member of the cube: macro-F1 on records left out is "
        f"{', '.join(grown[1:])}, {scores[0]:.3f} without"
    )
    return ForestChoice(taken, note), measured[best]
