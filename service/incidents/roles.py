"""What each class means to incidents: is it a fault of its own, or the echo of another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from models import UNKNOWN, Class

__all__ = ["SEVERITIES", "Role", "Roles"]

Severity = Literal["cleared", "indeterminate", "warning", "minor", "major", "critical"]

SEVERITIES: Final[dict[str, Severity]] = {
    "none": "cleared",
    "indeterminate": "indeterminate",
    "warning": "warning",
    "minor": "minor",
    "major": "major",
    "critical": "critical",
}
"""From the severities of a manifest to the perceived severities of ITU-T X.733."""


@dataclass(frozen=True, slots=True)
class Role:
    """A class as incidents see it.

    Attributes:
        good: whether it is good traffic.
        severity: perceived severity (ITU-T X.733).
        echo_of: the class that this one is an echo of on other keys; None of a fault of its own. A
            class that names itself is both: a cut link shows the same at its two ends.
        lasting: whether the fault can stand for long; of one that cannot, a level that stays is
            the new normal.
    """

    good: bool = False
    severity: Severity = "major"
    echo_of: str | None = None
    lasting: bool = True


class Roles:
    """The role of every label.

    Args:
        roles: by class; a class that is not listed is a fault of its own of severity major, and
            `unknown` is of indeterminate severity.

    Attributes:
        by_label: the role of every label that is listed.
        good: labels of good traffic.
        bad: all other labels that are listed.
    """

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self.by_label = {UNKNOWN: Role(severity="indeterminate"), **roles}
        self.good = frozenset(name for name, role in self.by_label.items() if role.good)
        self.bad = self.by_label.keys() - self.good

    @classmethod
    def of(cls, classes: Iterable[Class]) -> Roles:
        """Return the roles of a manifest's classes."""
        return cls(
            {c.name: Role(c.good, SEVERITIES[c.severity], c.echo_of, c.lasting) for c in classes}
        )

    def with_roles(self, roles: Mapping[str, Role]) -> Roles:
        """Return these roles and others, which go before them."""
        return Roles({**self.by_label, **roles})

    def __getitem__(self, label: str) -> Role:
        return self.by_label.get(label, _FAULT)

    def is_primary(self, label: str) -> bool:
        """Whether a label is a fault of its own, of which its key is the root."""
        return label != UNKNOWN and self[label].echo_of in (None, label)

    def spreads(self, label: str) -> bool:
        """Whether a primary shows the same on other keys than its root."""
        return self[label].echo_of == label


_FAULT: Final = Role()
