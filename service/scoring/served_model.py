"""A model that is served, with all that is made of it once and not for every request."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import msgspec
import numpy as np

from models import UNKNOWN, Decisions, Model
from models.schema import Matrix
from service.bundles.shadow import Compare
from service.formats.json_reader import JsonDecoder
from service.scoring.explain import Explainer

__all__ = ["ServedModel"]


class ServedModel:
    """A model and what requests are read and answered with.

    Args:
        model: a verified model, with the classes that are enrolled.
        most: how many records a request may hold.
        revision: of the classes that are enrolled.
        sample: is offered the encoder's input of every chunk that is answered.

    Attributes:
        version: of its bundle.
        revision: of its classes.
        bundle: which one it is, for answers.
        names: of the classes.
        good: which of them are good traffic.
        infer_path: where the Open Inference Protocol asks this model.
        opening: how an answer begins, in JSON.
        headers: name the bundle and the revision in the head of every answer.
        classify: decodes the JSON bodies of `/classify`.
        embed: decodes those of `/embed`.
        compare: is offered every chunk with its labels and the decisions behind them.
    """

    def __init__(
        self,
        model: Model,
        most: int,
        *,
        revision: int = 0,
        sample: Callable[[Matrix], None] | None = None,
    ) -> None:
        manifest = model.manifest
        self.model, self.most, self.revision = model, most, revision
        self.version = manifest.version
        self.bundle = {"name": manifest.name, "version": manifest.version}
        self.names, self.good = model.names, model.good
        self._words = np.array([*self.names, UNKNOWN], dtype=object)
        self.infer_path = f"/v2/models/{manifest.name}/infer"
        self.opening = b'{"bundle":%b,' % msgspec.json.encode(self.bundle)
        self.headers = [
            (b"faultcube-bundle", f"{manifest.name}/{manifest.version}".encode()),
            (b"faultcube-revision", b"%d" % revision),
        ]
        self.classify = JsonDecoder(model.schema, most, frozenset({"distances", "explain"}))
        self.embed = JsonDecoder(model.schema, most)
        self.sample = sample or _nothing
        self.compare: Compare = _alone

    @cached_property
    def explainer(self) -> Explainer | None:
        """Says what drove a verdict; None where the bundle holds no records of good traffic."""
        return Explainer.of(self.model, self.names)

    def labels(self, decisions: Decisions) -> list[str]:
        """The label of each record."""
        unknown = len(self.names)
        labels: list[str] = self._words[
            np.where(decisions.accepted, decisions.nearest, unknown)
        ].tolist()
        return labels


def _nothing(_matrix: Matrix) -> None:
    """There is nothing to compare records with."""


def _alone(_matrix: Matrix, _labels: list[str], _decisions: Decisions) -> None:
    """There is no shadow to compare answers with."""
