"""Whatever is sent is answered, in short, and nothing of it is held afterwards."""

from __future__ import annotations

import asyncio
import json
import mmap
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.application import Application
from benchmarks.fuzz.check import ask_and_check, check_variants
from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.seeds import seeds
from benchmarks.fuzz.values import HEADERS, PATHS, QUERIES, VALUES

MOST_GROWTH = 128 << 20
"""Bytes; the bodies are gigabytes in all, and hypothesis keeps some of its own."""
JSON = (b"content-type", b"application/json")
FIELDS = ("cpu load", "error rate", "link up", "state", "vendor")
bounded = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Target:
    """An application, and requests that it answers."""

    def __init__(self, application: Application, runner: asyncio.Runner) -> None:
        self.application, self.runner = application, runner
        self.seeds = seeds(application.model)

    def check(self, request: Request) -> int | None:
        """Ask in every way; gives the status."""
        reply, fault = self.runner.run(ask_and_check(self.application, request))
        assert fault is None
        assert self.runner.run(check_variants(self.application, request, reply)) is None
        return reply.status


@pytest.fixture(scope="module")
def target(bundle: Path) -> Iterator[Target]:
    application = Application(bundle)
    with asyncio.Runner() as runner:
        before = resident()
        yield Target(application, runner)
    assert resident() - before < MOST_GROWTH


def resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * mmap.PAGESIZE


def test_what_mutations_start_from_is_answered_in_every_form(target: Target) -> None:
    assert {target.check(request) for request in target.seeds} == {200}
    assert len(target.seeds) > 30


@settings(bounded, max_examples=2000)
@given(st.integers(0, (1 << 64) - 1))
def test_damaged_requests_are_answered(target: Target, seed: int) -> None:
    target.check(mutate(target.seeds, random.Random(seed)))


@bounded
@given(
    body=st.binary(max_size=3000),
    query=st.lists(st.sampled_from(QUERIES), max_size=2).map(b"&".join),
    headers=st.lists(st.sampled_from(HEADERS), max_size=3).map(tuple),
    path=st.sampled_from(["/classify", "/embed", "/v2/models/toy/infer", *PATHS]),
    cuts=st.lists(st.integers(0, 3000), max_size=3).map(tuple),
    breaks_off=st.booleans(),
)
def test_noise_is_answered(target: Target, **parts: Any) -> None:
    target.check(Request(**parts))


values = st.recursive(
    st.sampled_from([value for value in VALUES if len(repr(value)) < 50])
    | st.floats()
    | st.integers()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
records = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values, max_size=6)


@bounded
@given(
    records=st.lists(records, max_size=5),
    more=st.dictionaries(st.sampled_from(["distances", "explain", "x"]), values, max_size=1),
    query=st.sampled_from([b"", b"on_invalid=report", b"distances=true", b"explain=true"]),
)
def test_records_of_anything_are_answered(
    target: Target, records: list[Any], more: dict[str, Any], query: bytes
) -> None:
    text = json.dumps({"records": records} | more)
    target.check(Request("/classify", query, (JSON,), text.encode("utf-8", "replace")))
