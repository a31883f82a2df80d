"""A model in service, with everything that is made of it once rather than per request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from models import Model
from service.formats.json_reader import JsonDecoder
from service.scoring.explain import Explainer
from service.scoring.scored import Observer
from service.scoring.site import Site

__all__ = ["ServedModel"]


class ServedModel:
    """A model and what requests are read and answered with.

    Args:
        model: a verified model, with the enrolled classes.
        max_records: of a request.
        revision: of the enrolled classes.
        observers: of every scored chunk.
        sites: that requests may name.

    Attributes:
        version: of the bundle.
        bundle: name and version of the bundle, as responses give them.
        json_prefix: how a JSON response begins.
        headers: name the bundle and the revision in every response.
        classify_decoder: of the JSON bodies of `/classify`.
        embed_decoder: of those of `/embed`.
    """

    def __init__(
        self,
        model: Model,
        max_records: int,
        *,
        revision: int = 0,
        observers: Sequence[Observer] = (),
        sites: Mapping[str, Site] | None = None,
    ) -> None:
        manifest = model.manifest
        self.model, self.max_records, self.revision = model, max_records, revision
        self.observers, self.sites = tuple(observers), sites or {}
        self.version = manifest.version
        self.bundle = {"name": manifest.name, "version": manifest.version}
        self.json_prefix = b'{"bundle":%b,' % msgspec.json.encode(self.bundle)
        self.headers = [
            (b"faultcube-bundle", f"{manifest.name}/{manifest.version}".encode()),
            (b"faultcube-revision", b"%d" % revision),
        ]
        self.classify_decoder = JsonDecoder(
            model.schema, max_records, frozenset({"distances", "explain"})
        )
        self.embed_decoder = JsonDecoder(model.schema, max_records)

    @cached_property
    def explainer(self) -> Explainer | None:
        """Explains verdicts; None where the bundle holds no records of good traffic."""
        return Explainer.of(self.model, self.model.names)
