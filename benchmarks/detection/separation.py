"""The claim of the lossless loss: faults come apart that the triplet loss leaves together."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from models.decision import distances_between
from training.dataset.dataset import load_dataset
from training.evaluation.evaluate import score
from training.evaluation.loss_comparison import with_loss
from training.fitting.estimator import one_thread
from training.fitting.families import choose_families
from training.fitting.fit import centroids_of, embed, fit
from training.recipe import Recipe, RecipeError
from training.reports.animation_data import faults_apart, select

CASES: Mapping[str, tuple[str, float]] = {
    f"{loss}, gain {gain:g}": (loss, gain)
    for loss in ("triplet", "lossless")
    for gain in (1.0, 4.0)
}
"""Loss and gain, by the name of the case; the animation has gain 4."""


def measure_separation(recipe: Recipe, case: str) -> dict[str, float]:
    """Fit a cube of three dimensions to good traffic and two faults, as the animation does.

    The faults are the two with most test rows. Fields of one metric are pooled where the default
    recipe pools them.

    Raises:
        RecipeError: there are not two faults.
    """
    loss, gain = CASES[case]
    dataset = load_dataset(recipe)
    families = choose_families(recipe, dataset.fitted).families
    encoder = recipe.encoder.model_copy(update={"families": families})
    recipe = with_loss(recipe.model_copy(update={"encoder": encoder}), loss, recipe.fit.seed)
    selection = select(recipe, dataset, ())
    if selection is None:
        raise RecipeError("separation takes two faults")
    dataset, shape = selection.dataset, selection.recipe.encoder.model_copy(update={"gain": gain})
    train, test = dataset.train, dataset.test
    with torch.random.fork_rng([]), one_thread():
        encoder_of, _ = fit(
            dataset.schema, train, None, shape, selection.recipe.fit, lambda *_: None
        )
    points = embed(encoder_of, test.matrix)
    centroids = centroids_of(embed(encoder_of, train.matrix), train.labels, len(dataset.classes))
    gap, recall = faults_apart(points, test.labels, centroids)
    nearest = distances_between(points, centroids).argmin(axis=1)
    return {
        "on their own side": recall,
        "spreads apart": gap,
        "macro-F1": score(test.labels, nearest).macro_f1,
    }
