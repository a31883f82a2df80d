"""A model that is served, with all that is made of it once and not for every request."""

from __future__ import annotations

import msgspec

from models import Model
from service.decode import Decoder

__all__ = ["Serving"]


class Serving:
    """A model and what requests are read and answered with.

    Args:
        model: a verified model.
        most: how many records a request may hold.

    Attributes:
        version: of its bundle.
        bundle: which one it is, for answers.
        opening: how an answer begins, in JSON.
        header: names the bundle in the head of every answer.
        classify: decodes the JSON bodies of `/classify`.
        embed: decodes those of `/embed`.
    """

    def __init__(self, model: Model, most: int) -> None:
        manifest = model.manifest
        self.model, self.most = model, most
        self.version = manifest.version
        self.bundle = {"name": manifest.name, "version": manifest.version}
        self.opening = b'{"bundle":%b,' % msgspec.json.encode(self.bundle)
        self.header = (b"faultcube-bundle", f"{manifest.name}/{manifest.version}".encode())
        self.classify = Decoder(model.schema, most, frozenset({"distances"}))
        self.embed = Decoder(model.schema, most)
