# ruff: noqa: N803, N806 (scikit-learn's name for a matrix of records is X)
"""Fit, classify, reject and enrol in process, as a scikit-learn estimator."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from models.decision import Decisions
from models.schema import Matrix, Schema
from models.support import support_radius, with_class
from training.dataset import arrays
from training.dataset.arrays import FitError
from training.dataset.dataset import Dataset, Labels, Rows, groups_of, order_of
from training.fitting.bins_choice import FINE, BinsChoice, choose_bins, may_help
from training.fitting.calibration import HeldOut, Shares, Space, decision_rule
from training.fitting.cross import (
    FOLDS,
    Folds,
    blocks_of,
    can_measure,
    folds_of,
    measure_held_out,
    measures_all,
)
from training.fitting.encoder import COARSE, Encoder, in_blocks
from training.fitting.families import choose_families
from training.fitting.fit import Epoch, fit
from training.fitting.forest_choice import Variant, choose_forest, measure_variants, variants_of
from training.fitting.prior import choose_prior, shares_of
from training.recipe import EncoderRecipe, FitRecipe, Prior, Recipe, RecipeError

Report = Callable[[Epoch | None, Encoder | None], None]
"""Called after every epoch with the encoder as it is; with None after each fit that calibrates."""


class _Settings(EncoderRecipe, FitRecipe):
    """The constructor's values, checked as a recipe's are."""

    unknown_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)]
    dev_share: Annotated[float, pydantic.Field(gt=0, lt=1)]
    prior: Prior


# scikit-learn reads the parameters from the constructor's signature, so they are repeated here;
# a test compares names and defaults with the recipe's.
@dataclass(kw_only=True, eq=False, repr=False)
class SiameseClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Embed records in the unit cube; the nearest class decides, unless it rejects the record.

    Args:
        dimensions, hidden, ...: the fields of `EncoderRecipe` and `FitRecipe`, documented there.
        random_state: of weights, batches and drawn dev rows; an int gives the same model again.
        unknown_rate: share of records of known classes that may be called unknown.
        dev_share: share of each class's rows that `fit` sets aside if it gets no dev rows.
        prior: whether a class counts by its share of the records, or as much as any other; `auto`
            chooses how much, by records that the fit did not see.
        schema: kinds of the columns; a column of categories holds codes 0, 1, ... None when all
            columns are numbers.

    Attributes:
        classes_: labels, sorted; those enrolled later follow, and so do their columns.
        encoder_: the torch module, float32 [n, fields] to float32 [n, N].
        rule_: centroids, radii and temperature; `centroids_` are float32 [k, N].
        held_out_: distances of records by fits without their groups; None without groups.
        fitted_radii_: float32, radii of the classes of the fit; enrolling does not change them.
        schema_: the fields.
        choice_: whether families are pooled; only of a model that was fitted by a recipe.
        forest_choice_: which trees are a member, if any, and why.
        bins_choice_: how many bins a number has at most, and why.
        prior_choice_: how much the share of a class counts, and why.
        shares_: float [k], the shares that `rule_` knows; None for a rule without a prior.
        traffic_: float [k], the share of each class in traffic, where it was given.
        calibrated_by_: what was measured for that, `groups`, `events` where other rows are of
            none, `blocks` of neighbouring rows or
            `dev` rows; only of such a model, too.
        history_, n_iter_: results of every epoch, and the number of epochs.
    """

    dimensions: int = 16
    members: int = 3
    linear: bool = True
    views: Sequence[str] = ("standard", "log", "bins")
    bins: int | str = "auto"
    families: Sequence[Sequence[str]] = ()
    hidden: Sequence[int] = (128, 64)
    gain: float = 1.0
    dropout: float = 0.1
    trees: str = "auto"
    loss: str = "lossless"
    alpha: float = 0.2
    margin: float = 1.0
    beta: float | None = None
    epsilon: float = 1e-4
    epochs: int = 15
    steps: int = 40
    batch: int = 512
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    random_state: int | np.random.RandomState | None = 0
    device: str = "cpu"
    jobs: int | None = None
    engine: str = "local"
    unknown_rate: float = 0.01
    dev_share: float = 0.15
    prior: Prior = "auto"
    schema: Schema | None = None

    @classmethod
    def of(cls, recipe: Recipe, dataset: Dataset, report: Report) -> Self:
        """Fit to the train and dev rows of a dataset, as its recipe says; classes are 0..K-1.

        Those that the dataset carries are enrolled after the fit.

        Raises:
            FitError: the encoder collapsed.
        """
        choice = choose_families(recipe, dataset.fitted)
        # Not a dump, which leaves out what a manifest does not say.
        settings = {**dict(recipe.encoder), **dict(recipe.fit)}
        settings["families"] = choice.families
        made = cls(
            **{name: value for name, value in settings.items() if name != "seed"},
            random_state=recipe.fit.seed,
            unknown_rate=recipe.unknown_rate,
            schema=dataset.fitted.schema,
            # What an operator says of the traffic to come is no guess that needs damping.
            prior=bool(recipe.prior) if recipe.fault_share is not None else recipe.prior,
        )
        made.choice_ = choice
        made._fit_dataset(recipe, dataset.fitted, report)
        known = dataset.known
        for c, name in enumerate(dataset.classes):
            if name in dataset.carried:
                made.enrol(known.matrix[known.labels == c], c)
        return made

    def _fit_dataset(self, recipe: Recipe, dataset: Dataset, report: Report) -> None:
        train, dev, known = dataset.train, dataset.dev, dataset.known
        if recipe.calibration == "dev":
            self.calibrated_by_ = "dev"
            shares = _shares(recipe, dataset, train.labels)
            held_out = dev.matrix, dev.labels
            self.fit(train.matrix, train.labels, dev=held_out, shares=shares, report=report)
            return
        order = order_of(known, recipe.time)
        serves = partial(can_measure, known.labels, recipe.fit.seed)
        groups = groups_of(known, recipe.groupings, FOLDS, order, serves)
        if (
            groups
            and groups.is_cut
            and not measures_all(known.labels, recipe.fit.seed, groups.numbers)
        ):
            groups = None  # blocks measure the class of a single event, too
        if groups is None and recipe.calibration == "cross":
            raise FitError(
                f"cross calibration needs columns that give at least {FOLDS} groups, none of "
                "which has more than half of the rows, and good traffic and a fault in several "
                "of them: leave_out in the recipe"
            )
        parts: dict[str, Any]
        if groups is None:
            self.calibrated_by_, parts = "blocks", {"blocks": blocks_of(known.labels, order)}
        elif groups.is_cut:  # good traffic has neighbours on the other side of a cut
            self.calibrated_by_, parts = "events", {"blocks": groups.numbers}
        else:
            self.calibrated_by_, parts = "groups", {"groups": groups.numbers}
        shares = _shares(recipe, dataset, known.labels)
        self.fit(known.matrix, known.labels, **parts, shares=shares, report=report)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        dev: tuple[Any, Any] | None = None,
        groups: Any = None,
        blocks: Any = None,
        shares: Shares | None = None,
        report: Report | None = None,
    ) -> Self:
        """Fit the encoder and the centroids, then calibrate radii and confidence on dev records.

        Torch's global generator and number of threads are restored afterwards.

        Args:
            X: [n, fields], raw values, NaN where missing; columns need no scaling.
            y: [n], labels; every class has two records or more.
            dev: records and labels that are not trained on. A pipeline passes them on
                untransformed. Without them rows are drawn at random. Where neighbouring rows are
                nearly equal, as in time series, radii may then be tighter than new traffic needs:
                better pass records of another time, event or device.
            groups: [n], whole numbers: which records belong together, as those of a device or an
                event. Instead of dev records, fits that each leave some groups out calibrate.
            blocks: [n], the same for parts of a series where no groups are known: neighbours of
                what is left out are trained on, so boosted trees are never chosen by it.
            shares: [k], the share of each class in the traffic to come; that among the records
                when not given.
            report: called after every epoch, with the encoder in its current state.

        Raises:
            ValueError: a setting or the records are invalid, or the encoder collapsed.
        """
        settings = self._settings()
        self.bins_choice_ = BinsChoice(COARSE if settings.bins == "auto" else settings.bins, "")
        X, y = self._checked(X, y, reset=True, ensure_min_samples=2)
        check_classification_targets(y)
        classes, labels = arrays.classes_of(y)
        names = getattr(self, "feature_names_in_", None)
        schema = arrays.schema_of(self.schema, self.n_features_in_, names)
        train = Rows(X, labels)
        held_out: Rows | None = None
        variants = variants_of(settings.trees, grouped=groups is not None)
        parts = blocks if groups is None else groups
        if parts is not None:
            folds = folds_of(np.unique(parts, return_inverse=True)[1], settings.seed)
        elif dev is None:
            random = np.random.default_rng(settings.seed)
            train, held_out = arrays.hold_out(train, settings.dev_share, random)
        else:
            dev_x, dev_y = self._checked(*dev)
            held_out = arrays.labelled(dev_x, dev_y, classes)
        arrays.check_columns(schema, train.matrix)
        report = report or (lambda *_: None)
        try:
            with torch.random.fork_rng(range(torch.cuda.device_count())), one_thread():
                if held_out is None:
                    settings, chosen = self._choose(
                        schema, train, folds, settings, variants, report
                    )
                encoder, history = fit(schema, train, held_out, settings, settings, report)
                if held_out is not None:
                    measured = [
                        HeldOut(distances, held_out.labels)
                        for distances in measure_variants(
                            encoder, train, held_out, variants, settings.seed
                        )
                    ]
                    self.forest_choice_, chosen = choose_forest(measured, variants)
        except RecipeError as error:
            raise FitError(str(error)) from error
        if growth := self.forest_choice_.growth:
            encoder.grow(train.matrix, train.labels, growth, settings.seed)
        self.classes_, self.schema_, self.encoder_ = classes, schema, encoder
        space = Space.of(self._embed, train)
        if held_out is not None:
            chosen = HeldOut(space.measure(self._embed(held_out.matrix)), held_out.labels)
        self.traffic_ = shares
        if shares is not None:
            chosen = chosen.as_traffic(shares)
        self.held_out_ = chosen if held_out is None else None
        shares = shares_of(train.labels) if shares is None else shares
        self.prior_choice_ = choose_prior(chosen, shares, settings.prior)
        self.shares_ = self.prior_choice_.apply(shares)
        self.rule_ = decision_rule(space, chosen, settings.unknown_rate, self.shares_)
        self.fitted_radii_, self.history_, self.n_iter_ = self.rule_.radii, history, len(history)
        return self

    def _choose(
        self,
        schema: Schema,
        train: Rows,
        folds: Folds,
        settings: _Settings,
        variants: Sequence[Variant],
        report: Report,
    ) -> tuple[_Settings, HeldOut]:
        """Choose trees and bins by fits that each leave a fold out.

        Returns:
            The settings of the last fit, and what the others measured with these.
        """
        measure = partial(measure_held_out, schema, train, folds)

        def show() -> None:
            report(None, None)

        measured = measure(settings, settings, variants, show)
        self.forest_choice_, chosen = choose_forest(measured, variants)
        # Trees have thresholds of their own.
        is_open = settings.bins == "auto" and "bins" in settings.views
        is_open = is_open and self.forest_choice_.growth is None
        if is_open and may_help(schema, train, folds, settings.families):
            finer = settings.model_copy(update={"bins": FINE})
            [fine] = measure(finer, finer, [None], show)
            self.bins_choice_, chosen = choose_bins(chosen, fine)
            settings = settings.model_copy(update={"bins": self.bins_choice_.bins})
        return settings, chosen

    def transform(self, X: Any) -> Matrix:
        """Embed records: [n, fields] to float32 [n, N], values in (0, 1)."""
        check_is_fitted(self)
        return self._embed(self._checked(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the best class of each record, [n], whether or not it accepts the record."""
        nearest = self._decide(X).nearest
        labels: npt.NDArray[Any] = self.classes_[nearest]
        return labels

    def predict_proba(self, X: Any) -> Matrix:
        """Return the calibrated probabilities of `classes_`: float32 [n, k], rows sum to 1."""
        return self._decide(X).probabilities.astype(np.float32)

    def predict_with_unknowns(self, X: Any, unknown: Any = "unknown") -> npt.NDArray[Any]:
        """Return the best class of each record, or `unknown` where that class rejects the record.

        No class may have the label `unknown`; text among numbers gives an array of objects.
        """
        decisions = self._decide(X)
        if unknown in self.classes_.tolist():
            raise ValueError(f"{unknown!r} is a class; give another label for what is unknown")
        labels = self.classes_[decisions.nearest]
        same_kind = isinstance(unknown, str) == arrays.is_text(self.classes_)
        dtype = None if same_kind else object
        return np.where(decisions.accepted, labels, np.array(unknown, dtype))

    def enrol(self, X: Any, label: Any) -> Self:
        """Learn a class from its support records; the encoder and all other classes stay.

        For an existing label, these records replace its former ones. A new label, of the kind of
        the others, comes last in `classes_`. See `support_radius` for the radius, and
        `NearestCentroid.expected` for the allowance for few records.

        Raises:
            ValueError: there is no record, its width is wrong, or the label is invalid.
        """
        check_is_fitted(self)
        label = arrays.checked_label(label, self.classes_)
        points = self._embed(self._checked(X))
        matches = np.flatnonzero(self.classes_ == label)
        index = int(matches[0]) if len(matches) else len(self.classes_)
        others = self.fitted_radii_[np.arange(len(self.fitted_radii_)) != index]
        radius = support_radius(points, others, self.unknown_rate)
        self.rule_ = with_class(self.rule_, index, points, radius)
        if not len(matches):
            self.classes_ = np.append(self.classes_, label)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "rule_")

    @property
    def centroids_(self) -> Matrix:
        """Mean embedding of each of `classes_`: float32 [k, N]."""
        centroids: Matrix = self.rule_.centroids
        return centroids

    @property
    def _n_features_out(self) -> int:
        return int(self.centroids_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # embeddings are always float32
        return tags

    def _settings(self) -> _Settings:
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        names = _Settings.model_fields.keys() - {"seed"}
        try:
            return _Settings(seed=seed, **{name: getattr(self, name) for name in names})
        except pydantic.ValidationError as error:
            raise arrays.fit_error(error, seed="random_state") from error

    def _checked(self, X: Any, y: Any = "no_validation", **options: Any) -> Any:
        """Return records as float32 [n, fields], and labels if there are any."""
        options = {"reset": False, "ensure_all_finite": "allow-nan"} | options
        # Torch shares the memory, and supports neither negative strides nor read-only arrays.
        return validate_data(
            self, X, y, dtype=np.float32, order="C", force_writeable=True, **options
        )

    @torch.inference_mode()
    def _embed(self, matrix: Matrix) -> Matrix:
        # A row's last float32 digit depends on the rows beside it; rounded from float64 it does
        # not.
        encoder = copy.deepcopy(self.encoder_).double()
        blocks = in_blocks(matrix)
        with one_thread():
            points = torch.cat([encoder(block.double()).float() for block in blocks])
        embeddings: Matrix = points.numpy()
        return embeddings

    def _decide(self, X: Any) -> Decisions:
        check_is_fitted(self)
        # In float64, so that no distance depends on the rows beside it either.
        return self.rule_.decide(self._embed(self._checked(X)).astype(np.float64))


def _shares(recipe: Recipe, dataset: Dataset, labels: Labels) -> Shares | None:
    """Return the share of each class in traffic, None where it is that among the labels."""
    if dataset.sample is None and recipe.fault_share is None:
        return None
    sample = dataset.sample
    weights = [sample.weight(name) for name in dataset.classes] if sample else ()
    return shares_of(labels, recipe.fault_share, weights)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: the same digits everywhere, and no waiting for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
