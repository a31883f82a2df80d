"""Families: fields that are one metric at many places."""

import re
from collections.abc import Iterator, Sequence

Families = tuple[tuple[str, ...], ...]

_LEAST = 4
"""Fewer places are told apart as easily as pooled."""
_SEPARATOR = re.compile(r"[_/:.\s\[]")


def find_families(names: Sequence[str]) -> Families:
    """Return the fields that are one metric at many places, by their names.

    Such names differ in numbers only (`eth0_errors`, `eth1_errors`), or behind the name of the
    metric, where each has a number (`rx-pps_TR-01+link-a-2`).
    """
    masked: dict[str, list[str]] = {}
    for name in names:
        masked.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    families = {mask: members for mask, members in masked.items() if len(members) >= _LEAST}
    pooled = {name for members in families.values() for name in members}
    by_metric: dict[str, list[str]] = {}
    for name in names:
        for metric in _metrics(name):
            by_metric.setdefault(metric, []).append(name)
    # The longest name of a metric that still has places enough says most.
    for metric in sorted(by_metric, key=len, reverse=True):
        members = [name for name in by_metric[metric] if name not in pooled]
        if len(members) >= _LEAST:
            families[metric] = members
            pooled.update(members)
    order = {name: i for i, name in enumerate(names)}
    return tuple(sorted(map(tuple, families.values()), key=lambda family: order[family[0]]))


def _metrics(name: str) -> Iterator[str]:
    """Yield what comes before each separator that a number follows somewhere."""
    for separator in _SEPARATOR.finditer(name):
        if separator.start() and re.search(r"\d", name[separator.end() :]):
            yield name[: separator.start()]


def name_of(family: Sequence[str]) -> str:
    """Return what all names of a family begin with, or else its first name."""
    first, last = min(family), max(family)
    pairs = enumerate(zip(first, last, strict=False))
    shared = next((i for i, (a, b) in pairs if a != b), len(first))
    return first[:shared].rstrip("0123456789_/:.+- [") or family[0]
