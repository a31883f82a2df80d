"""Verdicts by number: what is kept of a record is a number, not its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from service.live.responses import State

__all__ = ["STATES", "Verdict", "Verdicts"]

STATES: Final[tuple[State, ...]] = ("good", "fault", "unknown", "learning", "insufficient")
"""Of a record, by number; a device may also be silent."""
_MAX = (1 << 16) - 1
_Codes = npt.NDArray[np.uint16]


class Verdict(NamedTuple):
    """A label and what it meant then."""

    label: str
    good: bool
    severity: str | None


class Verdicts:
    """All verdicts that there were; 65,535 at most, more are one."""

    def __init__(self) -> None:
        self._known: list[Verdict] = []
        self._codes: dict[Verdict, int] = {}

    def __getitem__(self, code: int) -> Verdict:
        return self._known[code]

    def codes(
        self, labels: Sequence[str], good: Sequence[bool], severities: Mapping[str, str | None]
    ) -> _Codes:
        """Return the numbers of the verdicts on records."""
        pairs = [*zip(labels, good, strict=True)]
        codes = {pair: self._code(*pair, severities.get(pair[0])) for pair in dict.fromkeys(pairs)}
        return np.array([codes[pair] for pair in pairs], np.uint16)

    def _code(self, label: str, good: bool, severity: str | None) -> int:
        verdict = Verdict(label, good, None if good else severity)
        code = self._codes.get(verdict)
        if code is None:
            if len(self._known) >= _MAX:
                verdict = Verdict("(other)", good, verdict.severity)
            code = self._codes.setdefault(verdict, len(self._known))
            if code == len(self._known):
                self._known.append(verdict)
        return code
