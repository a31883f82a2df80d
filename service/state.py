"""What one application holds: its settings, its metrics, and the model once it is loaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from models import BundleError, Model
from service.metrics import Metrics
from service.problems import NotReady
from service.security import Keys
from service.serving import Serving
from service.settings import Settings
from service.turns import Turns

__all__ = ["State", "state_of"]

_RETRY_LOADING, _RETRY_REFUSED = 1, 30

log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """The state of one application.

    Attributes:
        settings: as read from the environment.
        metrics: of this application alone.
        loader: gives the verified model of a folder, or raises `BundleError`.
        clock: seconds that only go forward, for durations.
        keys: who may do what.
        turns: bounds what is under way.
        settled: set once the bundle is loaded or refused.
    """

    settings: Settings
    metrics: Metrics
    loader: Callable[[Path], Model]
    clock: Callable[[], float]
    keys: Keys = field(init=False)
    turns: Turns = field(init=False)
    settled: threading.Event = field(default_factory=threading.Event, init=False)
    _serving: Serving | None = field(default=None, init=False)
    _why_not: str = field(default="The bundle is still loading.", init=False)
    _retry_seconds: int = field(default=_RETRY_LOADING, init=False)

    def __post_init__(self) -> None:
        self.keys = self.settings.keys()
        self.turns = Turns(self.settings.queue, self.settings.max_held_bytes)

    @property
    def loaded(self) -> Model | None:
        """The model, or None when there is none."""
        return self._serving.model if self._serving else None

    @property
    def serving(self) -> Serving:
        """The model with all that is made of it once; a request takes it once and keeps it.

        Raises:
            NotReady: there is none; the message says why.
        """
        if self._serving is None:
            raise NotReady(self._why_not, retry_seconds=self._retry_seconds)
        return self._serving

    def load(self) -> None:
        """Load the bundle; a refusal is logged and told to whoever asks, never raised."""
        folder = self.settings.bundle
        try:
            model = self.loader(folder)
        except BundleError as error:
            log.error("bundle refused", extra={"bundle": str(folder), "reason": error.reason})  # noqa: TRY400 - the reason is the whole story
            self._refuse(error.reason)
        except Exception as error:
            log.exception("bundle refused", extra={"bundle": str(folder)})
            self._refuse(f"unexpected {type(error).__name__}; the log says more")
        else:
            self._accept(model)
        finally:
            self.settled.set()

    def _accept(self, model: Model) -> None:
        manifest = model.manifest
        self.metrics.show_bundle(manifest)
        self._serving = Serving(model, self.settings.max_records)
        log.info("bundle loaded", extra={"bundle": manifest.name, "version": manifest.version})

    def _refuse(self, reason: str) -> None:
        self._why_not = f"The bundle {self.settings.bundle.name} is refused: {reason}."
        self._retry_seconds = _RETRY_REFUSED


def state_of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.faultcube
    return state
