"""A hundred changes of the bundle under load, with broken bundles in between."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterator
from itertools import repeat
from pathlib import Path

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.records import BUNDLE
from benchmarks.harness.report import Section, at_most, info, none_of, progress
from benchmarks.harness.requests import LARGE, batch, http, singles
from benchmarks.harness.server import LARGE_BODIES
from benchmarks.resilience.run import DELAY_MS, Run
from models import Bundle

_SWAPS, _SWAPS_A_SECOND, _BROKEN_EVERY = 100, 4.0, 10
_BUNDLE = re.compile(rb'\{"bundle":\{"name":"([^"]*)","version":"([^"]*)"\}')
_HEADER = re.compile(rb"\r\nfaultcube-bundle: *([^\r]*)\r\n", re.IGNORECASE)
_KEY = "the key of the benchmark"
_TEXT = f"""\
Single records, 200 a second, and batches of {LARGE:,} records on two connections that ask again as
soon as they are answered; first as it is, then while one of two bundles is activated
{_SWAPS_A_SECOND:g} times a second. Every {_BROKEN_EVERY}th time a spoilt bundle is dropped into the
folder and asked for as well."""


def copy_bundle(folder: Path, name: str, *, broken: bool = False) -> str:
    """Write the shipped bundle, with an `about` of its own, to a folder; return its version."""
    shipped = Bundle.read(BUNDLE)
    content = shipped.manifest.model_dump(exclude={"version", "files", "format"})
    bundle = Bundle.make(shipped.files, **(content | {"about": name}))
    bundle.write(folder / name)
    if broken:
        (folder / name / "encoder.onnx").write_bytes(b"broken")
    return bundle.manifest.version


def measure(run: Run) -> Section:
    """Swap bundles."""
    folder = run.folder / "bundles"
    folder.mkdir()
    versions = [copy_bundle(folder, name) for name in ("even", "odd")]
    copy_bundle(folder, "bad", broken=True)
    key = hashlib.sha256(_KEY.encode()).hexdigest()
    with run.service({**LARGE_BODIES, "admin_keys": key}, folder) as server:
        progress("swaps: the same load without any")
        quiet = _traffic(versions)
        Load(server.port, quiet).run(run.seconds / 4)
        progress(f"swaps: {_SWAPS} of them")
        traffic = _traffic(versions)
        swaps = Stream(_changes(folder, versions), 1, _SWAPS_A_SECOND)
        Load(server.port, [*traffic, swaps]).run(10 * run.seconds, until=swaps)
    small, large = (stream.outcome for stream in traffic)
    number, broken = len(small) + len(large), _SWAPS // _BROKEN_EVERY
    faults, quiet_p99 = small.faults + large.faults, quiet[0].outcome.p99()
    figures = [
        info("bundles activated", f"{swaps.outcome.count(200)} of {_SWAPS}"),
        none_of("spoilt bundles activated", broken - swaps.outcome.count(409), broken),
        info("traffic", f"{len(small):,} single records, {len(large):,} batches"),
        none_of("requests that failed", small.failed + large.failed, number),
        none_of("answers of mixed or unknown bundles", faults.total(), number),
        info("p99 of single records without swaps", quiet_p99, "ms"),
        at_most("p99 of single records", small.p99(), quiet_p99 + DELAY_MS, "ms"),
    ]
    return Section("Swaps", _TEXT, figures)


def _traffic(versions: list[str]) -> list[Stream]:
    def check(opening: bytes) -> str | None:
        return bundle_fault(opening, versions)

    return [
        Stream(singles(), 400, 200, urgent=True, check=check),
        Stream(repeat(batch(LARGE)), 2, check=check),
    ]


def bundle_fault(opening: bytes, versions: Collection[str]) -> str | None:
    """Return what is wrong unless an answer's head and body name one bundle of these versions."""
    head, body = _HEADER.search(opening), _BUNDLE.search(opening)
    if head is None or body is None:
        return "an answer without its bundle"
    if head.group(1) != b"/".join(body.groups()):
        return "head and body that name different bundles"
    return None if body.group(2).decode() in versions else "a bundle that is not known"


def _changes(folder: Path, versions: list[str]) -> Iterator[bytes]:
    """Yield requests to activate one bundle after the other."""
    admin = {"X-API-Key": _KEY}
    for number in range(_SWAPS):
        if number % _BROKEN_EVERY == 0:
            shutil.copytree(folder / "bad", folder / f"bad-{number}")
            yield http("POST", f"/models/bad-{number}/activate", headers=admin)
        yield http("POST", f"/models/{versions[number % 2]}/activate", headers=admin)
