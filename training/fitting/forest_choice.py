"""Whether trees are a member of the cube: by records that no part of a fit saw."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from training.dataset.dataset import Rows
from training.fitting.calibration import Distances, HeldOut, Space, is_worth_it
from training.fitting.encoder import Encoder
from training.fitting.fit import embed
from training.recipe import Trees


@dataclass(frozen=True, slots=True)
class ForestChoice:
    """Whether trees are taken, and why."""

    is_taken: bool
    note: str  # a line for the terminal and the card; empty if there was nothing to choose


def measure_variants(
    encoder: Encoder, train: Rows, held_out: Rows, trees: Trees, seed: int
) -> list[Distances]:
    """Measure held-out records without trees, with them, or both, as the recipe asks.

    Args:
        encoder: fitted to the training rows, without trees.
        train: labels are 0..K-1.
        held_out: records that it never saw.
        trees: the word of the recipe.
        seed: of the trees.

    Returns:
        Distances [n, K] of each variant; the one with trees comes last.
    """
    variants = [] if trees == "yes" else [encoder]
    if trees != "no":
        variants.append(copy.deepcopy(encoder))
        variants[-1].grow(train.matrix, train.labels, seed)
    measured = []
    for variant in variants:
        space = Space.of(partial(embed, variant), train)
        measured.append(space.measure(embed(variant, held_out.matrix)))
    return measured


def choose_forest(measured: Sequence[HeldOut], trees: Trees) -> tuple[ForestChoice, HeldOut]:
    """Decide, and return what is measured of the variant that is taken.

    Args:
        measured: held-out records by each variant that the recipe asks for.
        trees: the word of the recipe.
    """
    if len(measured) == 1:
        return ForestChoice(trees == "yes", ""), measured[0]
    without, grown = (held_out.macro_f1 for held_out in measured)
    is_taken = is_worth_it(without, grown)  # they take time with every record
    verb = "are" if is_taken else "are not"
    note = (
        f"trees {verb} a member of the cube: macro-F1 on records left out is {grown:.3f} with "
        f"them, {without:.3f} without"
    )
    return ForestChoice(is_taken, note), measured[is_taken]
