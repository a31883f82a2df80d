"""A model that is served, with all that is made of it once and not for every request."""

from __future__ import annotations

import msgspec
import numpy as np

from models import UNKNOWN, Decisions, Model
from models.schema import Matrix
from service.decode import Decoder
from service.drift import Drift

__all__ = ["Serving"]


class Serving:
    """A model and what requests are read and answered with.

    Args:
        model: a verified model.
        most: how many records a request may hold.
        drift: looks at a sample of them, None when there is nothing to compare with.

    Attributes:
        version: of its bundle.
        bundle: which one it is, for answers.
        names: of the classes.
        good: which of them are good traffic.
        infer_path: where the Open Inference Protocol asks this model.
        opening: how an answer begins, in JSON.
        header: names the bundle in the head of every answer.
        classify: decodes the JSON bodies of `/classify`.
        embed: decodes those of `/embed`.
        sample: is offered the encoder's input of every piece that is answered.
    """

    def __init__(self, model: Model, most: int, drift: Drift | None = None) -> None:
        manifest = model.manifest
        self.model, self.most = model, most
        self.version = manifest.version
        self.bundle = {"name": manifest.name, "version": manifest.version}
        self.names = [known.name for known in manifest.classes]
        self.good = [known.good for known in manifest.classes]
        self._words = np.array([*self.names, UNKNOWN], dtype=object)
        self.infer_path = f"/v2/models/{manifest.name}/infer"
        self.opening = b'{"bundle":%b,' % msgspec.json.encode(self.bundle)
        self.header = (b"faultcube-bundle", f"{manifest.name}/{manifest.version}".encode())
        self.classify = Decoder(model.schema, most, frozenset({"distances"}))
        self.embed = Decoder(model.schema, most)
        self.sample = drift.offer if drift else _nothing

    def labels(self, decisions: Decisions) -> list[str]:
        """The label of each record."""
        unknown = len(self.names)
        labels: list[str] = self._words[
            np.where(decisions.accepted, decisions.nearest, unknown)
        ].tolist()
        return labels


def _nothing(_matrix: Matrix) -> None:
    """There is nothing to compare records with."""
