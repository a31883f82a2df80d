# ruff: noqa: N803, N806 (scikit-learn's name for a matrix of records is X)
"""Fit, classify, refuse and enrol in process, as a scikit-learn estimator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Annotated, Any

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
from training.dataset.dataset import Dataset, Rows
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, fit
from training.fitting.rule import decision_rule
from training.recipe import EncoderRecipe, FitRecipe, Recipe, RecipeError

__all__ = ["SiameseClassifier", "one_thread"]

_BLOCK = 16384
"""Records that are embedded at a time: a million would take gigabytes."""

Report = Callable[[Epoch, Encoder], None]


class _Settings(EncoderRecipe, FitRecipe):
    """The constructor's values, checked as a recipe's are."""

    unknown_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)]
    dev_share: Annotated[float, pydantic.Field(gt=0, lt=1)]


class SiameseClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Records become points of the unit cube; the nearest class decides, or none accepts.

    Args:
        dimensions, hidden, ...: the fields of `EncoderRecipe` and `FitRecipe`, which explain them.
        random_state: of weights, batches and drawn dev rows; an int gives the same model again.
        unknown_rate: share of records of known classes that may be called unknown.
        dev_share: share of each class's rows that `fit` sets aside when it is given no dev rows.
        schema: kinds of the columns; a column of categories holds codes 0, 1, ... None when all
            columns are numbers.

    Attributes:
        classes_: labels, sorted; those enrolled later come behind them, and so do their columns.
        encoder_: the torch module, float32 [n, fields] to float32 [n, N].
        rule_: centroids, radii and temperature; `centroids_` are float32 [k, N].
        fitted_radii_: float32, radii of the classes of the fit, however they are enrolled later.
        schema_: the fields.
        history_, n_iter_: what every epoch brought, and how many there were.
    """

    def __init__(
        self,
        *,
        dimensions: int = 16,
        members: int = 3,
        linear: bool = True,
        views: Sequence[str] = ("standard", "log", "bins"),
        bins: int = 8,
        hidden: Sequence[int] = (128, 64),
        gain: float = 1.0,
        dropout: float = 0.1,
        loss: str = "lossless",
        alpha: float = 0.2,
        margin: float = 1.0,
        beta: float | None = None,
        epsilon: float = 1e-4,
        epochs: int = 15,
        steps: int = 40,
        batch: int = 512,
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-4,
        random_state: int | np.random.RandomState | None = 0,
        unknown_rate: float = 0.01,
        dev_share: float = 0.15,
        schema: Schema | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.members = members
        self.linear = linear
        self.views = views
        self.bins = bins
        self.hidden = hidden
        self.gain = gain
        self.dropout = dropout
        self.loss = loss
        self.alpha = alpha
        self.margin = margin
        self.beta = beta
        self.epsilon = epsilon
        self.epochs = epochs
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.unknown_rate = unknown_rate
        self.dev_share = dev_share
        self.schema = schema

    @classmethod
    def of(cls, recipe: Recipe, dataset: Dataset, report: Report) -> SiameseClassifier:
        """Fit what a recipe says to the train and dev rows of its table; classes are 0..K-1.

        Raises:
            FitError: the encoder collapsed.
        """
        settings = {**recipe.encoder.model_dump(), **recipe.fit.model_dump()}
        seed, rate = settings.pop("seed"), recipe.unknown_rate
        made = cls(**settings, random_state=seed, unknown_rate=rate, schema=dataset.schema)
        train, dev = dataset.train, dataset.dev
        return made.fit(train.matrix, train.labels, dev=(dev.matrix, dev.labels), report=report)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        dev: tuple[Any, Any] | None = None,
        report: Report | None = None,
    ) -> SiameseClassifier:
        """Fit the encoder and the centroids, then radii and confidence on records held out.

        Torch's global generator and number of threads are afterwards as they were.

        Args:
            X: [n, fields], raw values, NaN where missing; columns need no scaling.
            y: [n], labels; every class has two records or more.
            dev: records and labels that are not trained on: they calibrate, and every epoch is
                measured on them. A pipeline hands them on untransformed. Without them rows are
                drawn at random: where rows are neighbours in time, these are nearly copies of
                training rows, what they say flatters, and radii may be tighter than new traffic
                needs. Better give records of another time, event or device.
            report: told of every epoch, with the encoder as it then is.

        Raises:
            ValueError: a setting or the records will not do, or the encoder collapsed.
        """
        settings = self._settings()
        X, y = self._checked(X, y, reset=True, ensure_min_samples=2)
        check_classification_targets(y)
        classes, labels = arrays.classes_of(y)
        names = getattr(self, "feature_names_in_", None)
        schema = arrays.schema_of(self.schema, self.n_features_in_, names)
        train, held_out = self._parts(Rows(X, labels), classes, dev, settings)
        arrays.check_columns(schema, train.matrix)
        encoder, history = _fit(schema, train, held_out, settings, report)
        self.classes_, self.schema_, self.encoder_ = classes, schema, encoder
        self.rule_ = decision_rule(self._embed, train, held_out, settings.unknown_rate)
        self.fitted_radii_, self.history_, self.n_iter_ = self.rule_.radii, history, len(history)
        return self

    def transform(self, X: Any) -> Matrix:
        """Embed records: [n, fields] to float32 [n, N], each in (0, 1)."""
        check_is_fitted(self)
        return self._embed(self._checked(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The class that fits each record best, [n], whether or not it accepts the record."""
        nearest = self._decide(X).nearest
        labels: npt.NDArray[Any] = self.classes_[nearest]
        return labels

    def predict_proba(self, X: Any) -> Matrix:
        """Calibrated probability of each of `classes_`: float32 [n, k], rows sum to 1."""
        return self._decide(X).probabilities.astype(np.float32)

    def predict_with_unknowns(self, X: Any, unknown: Any = "unknown") -> npt.NDArray[Any]:
        """The class that fits each record best, or `unknown` where that refuses the record.

        Args:
            X: [n, fields].
            unknown: a label that no class has, such as -1 where classes are numbers; text among
                numbers gives an array of objects.
        """
        decisions = self._decide(X)
        if unknown in self.classes_.tolist():
            raise ValueError(f"{unknown!r} is a class; give another label for what is unknown")
        labels = self.classes_[decisions.nearest]
        alike = isinstance(unknown, str) == arrays.is_text(self.classes_)
        return np.where(decisions.accepted, labels, np.array(unknown, None if alike else object))

    def enrol(self, X: Any, label: Any) -> SiameseClassifier:
        """Learn a class from its support records; the encoder and all other classes stay.

        A label that is there already has these records in place of all its former ones. A new one
        comes last in `classes_` and in the columns of `predict_proba`. How far the class reaches
        is told in `support_radius`, and what allowance is made for few records in
        `models.decision.expected_distances`; the temperature of the confidence stays.

        Args:
            X: [n, fields], one record or more.
            label: text where classes are text, else a number of their kind.

        Raises:
            ValueError: there is no record, its width is wrong, or the label will not do.
        """
        check_is_fitted(self)
        label = arrays.checked_label(label, self.classes_)
        points = self._embed(self._checked(X))
        known = np.flatnonzero(self.classes_ == label)
        place = int(known[0]) if len(known) else len(self.classes_)
        others = self.fitted_radii_[np.arange(len(self.fitted_radii_)) != place]
        radius = support_radius(points, others, self.unknown_rate)
        self.rule_ = with_class(self.rule_, place, points, radius)
        if not len(known):
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
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32, whatever comes in
        return tags

    def _settings(self) -> _Settings:
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        names = _Settings.model_fields.keys() - {"seed"}
        try:
            return _Settings(seed=seed, **{name: getattr(self, name) for name in names})
        except pydantic.ValidationError as error:
            raise arrays.refusal(error, seed="random_state") from error

    def _parts(
        self,
        rows: Rows,
        classes: npt.NDArray[Any],
        dev: tuple[Any, Any] | None,
        settings: _Settings,
    ) -> tuple[Rows, Rows]:
        if dev is None:
            return arrays.set_aside(rows, settings.dev_share, np.random.default_rng(settings.seed))
        X, y = self._checked(*dev)
        return rows, arrays.known_rows(X, y, classes)

    def _checked(self, X: Any, y: Any = "no_validation", **asked: Any) -> Any:
        """Records as float32 [n, fields], and labels where there are any."""
        asked = {"reset": False, "ensure_all_finite": "allow-nan"} | asked
        # Torch shares the memory: it takes neither negative strides nor what is read-only.
        return validate_data(self, X, y, dtype=np.float32, order="C", force_writeable=True, **asked)

    @torch.inference_mode()
    def _embed(self, matrix: Matrix) -> Matrix:
        # A row's last float32 digit hangs on the rows beside it; rounded from float64 it does not.
        encoder = copy.deepcopy(self.encoder_).double()
        blocks = torch.split(torch.from_numpy(matrix), _BLOCK)
        with one_thread():
            points = torch.cat([encoder(block.double()).float() for block in blocks])
        embeddings: Matrix = points.numpy()
        return embeddings

    def _decide(self, X: Any) -> Decisions:
        check_is_fitted(self)
        points = self._embed(self._checked(X)).astype(np.float64)  # for the reason given there
        return self.rule_.decide(points)  # type: ignore[arg-type]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the same digits anywhere, and no waiting for a core that is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(
    schema: Schema, train: Rows, dev: Rows, settings: _Settings, report: Report | None
) -> tuple[Encoder, list[Epoch]]:
    told = report or (lambda *_: None)
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), one_thread():
            return fit(schema, train, dev, settings, settings, told)
    except RecipeError as error:
        raise FitError(str(error)) from error
