"""A hundred changes of the bundle under load, with spoilt bundles dropped in between."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.report import Section, at_most, none_of, told
from benchmarks.harness.requests import LARGE, batch, http, same_bundle, singles
from benchmarks.resilience.service import ROOMY
from benchmarks.resilience.stage import DELAY_MS, Stage
from benchmarks.serving.environments import ROOT
from benchmarks.serving.rounds import say
from models import Bundle

_SWAPS, _SWAPS_A_SECOND, _SPOILT_EVERY = 100, 4.0, 10
_SHIPPED = ROOT / "models" / "iosxr"
_KEY = "the key of the benchmark"
_TEXT = f"""\
Single records, 200 a second, and batches of {LARGE:,} records on two connections that ask again as
soon as they are answered; first as it is, then while one of two bundles is activated
{_SWAPS_A_SECOND:g} times a second. Every {_SPOILT_EVERY}th time a spoilt bundle is dropped into the
folder and asked for as well."""


def shelve(folder: Path, name: str, *, spoilt: bool = False) -> str:
    """Put the bundle that ships into a folder of bundles, told apart by what it is about.

    Returns:
        Its version.
    """
    shipped = Bundle.read(_SHIPPED)
    content = shipped.manifest.model_dump(exclude={"version", "files", "format"})
    made = Bundle.make(shipped.files, **(content | {"about": name}))
    made.write(folder / name)
    if spoilt:
        (folder / name / "encoder.onnx").write_bytes(b"spoilt")
    return made.manifest.version


def measure(stage: Stage) -> Section:
    """Swap bundles."""
    folder = stage.folder / "bundles"
    folder.mkdir()
    versions = [shelve(folder, name) for name in ("even", "odd")]
    shelve(folder, "bad", spoilt=True)
    key = hashlib.sha256(_KEY.encode()).hexdigest()
    with stage.service({**ROOMY, "admin_keys": key}, folder) as running:
        say("swaps: the same load without any")
        quiet = _traffic(versions)
        Load(running.port, quiet).run(stage.seconds / 4)
        say(f"swaps: {_SWAPS} of them")
        traffic = _traffic(versions)
        swaps = Stream(_changes(folder, versions), 1, _SWAPS_A_SECOND)
        Load(running.port, [*traffic, swaps]).run(10 * stage.seconds, until=swaps)
    small, large = (stream.outcome for stream in traffic)
    number, spoilt = len(small) + len(large), _SWAPS // _SPOILT_EVERY
    faults = small.faults + large.faults
    return Section(
        "Swaps",
        _TEXT,
        [
            told("bundles activated", f"{swaps.outcome.count(200)} of {_SWAPS}"),
            none_of("spoilt bundles activated", spoilt - swaps.outcome.count(409), spoilt),
            told("traffic", f"{len(small):,} single records, {len(large):,} batches"),
            none_of("requests that failed", small.failed + large.failed, number),
            none_of("answers of mixed or unknown bundles", faults.total(), number),
            told("p99 of single records without swaps", quiet[0].outcome.p99(), "ms"),
            at_most(
                "p99 of single records",
                small.p99(),
                quiet[0].outcome.p99() + DELAY_MS,
                "ms",
            ),
        ],
    )


def _traffic(versions: list[str]) -> list[Stream]:
    known = frozenset(versions)

    def judge(opening: bytes) -> str | None:
        return same_bundle(opening, known)

    return [
        Stream(singles(), 400, 200, urgent=True, judge=judge),
        Stream(repeat(batch(LARGE)), 2, judge=judge),
    ]


def _changes(folder: Path, versions: list[str]) -> Iterator[bytes]:
    """Requests to activate one bundle after the other."""
    admin = {"X-API-Key": _KEY}
    for number in range(_SWAPS):
        if number % _SPOILT_EVERY == 0:
            shutil.copytree(folder / "bad", folder / f"bad-{number}")
            yield http("POST", f"/models/bad-{number}/activate", headers=admin)
        yield http("POST", f"/models/{versions[number % 2]}/activate", headers=admin)
