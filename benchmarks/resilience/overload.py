"""Ten times more than can be done: as much as can be done is done, and the rest is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import ANSWERED, Outcome
from benchmarks.harness.report import (
    Figure,
    Section,
    at_least,
    below,
    none_of,
    told,
)
from benchmarks.harness.requests import LIVEZ, batch, singles
from benchmarks.harness.server import Running
from benchmarks.resilience.service import growth, peak, reset_peak
from benchmarks.resilience.stage import Stage, closed_loop, livez
from benchmarks.serving.rounds import say

_TIMES = 10
_CLIENTS = 2_000
_CONNECTIONS = 8
_REFUSED = 503
_ACCEPTED_SHARE = 0.5
_AFTERWARDS = 0.9
_ANSWER_MS = 1000.0
"""Within which everyone is answered: `Retry-After` says a second, and orchestrators that ask
whether a process lives wait for a second."""
_MEMORY_MIB = 512.0
"""Twice what may be held of bodies."""
_TEXT = f"""\
*Sustainable*: what {_CONNECTIONS} connections get, each of which asks again as soon as it is
answered. Then {_TIMES} times that rate is due, open loop: on any of {_CLIENTS:,} connections that
has no request under way; where none has, a request is never sent. So what is offered is what
connections allow, and every one of them waits all the time. They are made beforehand; *connecting*
makes one for each request, as /livez is asked. p99 is from first byte to answer."""


def measure(stage: Stage) -> Section:
    """Overload a service with single records, and another one with batches of 100."""
    kinds: dict[str, Callable[[], Iterator[bytes]]] = {
        "1 record": singles,
        "1 record, connecting": lambda: singles(close=True),
        "100 records": lambda: repeat(batch(100)),
    }
    figures: list[Figure] = []
    for name, requests in kinds.items():
        with stage.service() as running:
            found = _overload(name, running, requests, stage.seconds)
        figures += [Figure(f"{name}: {f.what}", f.measured, f.wanted, f.reached) for f in found]
    return Section("Overload", _TEXT, figures)


def _overload(
    name: str, running: Running, requests: Callable[[], Iterator[bytes]], seconds: float
) -> list[Figure]:
    def calm() -> Outcome:
        return closed_loop(running, requests(), connections=_CONNECTIONS, seconds=seconds / 6)

    say(f"overload, {name}: what is sustainable")
    before = calm()
    at_rest = reset_peak(running)
    say(f"overload, {name}: {_TIMES} times {before.rate():,.0f} requests a second")
    flood = Stream(requests(), _CLIENTS, _TIMES * before.rate())
    alive = livez()
    load = Load(running.port, [flood, alive])
    load.connect(LIVEZ)
    load.run(seconds)
    memory, most = growth(running, at_rest), peak(running) / 2**20
    say(f"overload, {name}: afterwards")
    return [
        *_during(before, flood.outcome, alive.outcome),
        told("peak of resident memory", most, "MiB"),
        below("memory grew at most by", memory, _MEMORY_MIB, "MiB"),
        at_least(
            "afterwards, share of what was sustainable", calm().rate() / before.rate(), _AFTERWARDS
        ),
    ]


def _during(before: Outcome, flood: Outcome, alive: Outcome) -> list[Figure]:
    accepted, refused = flood.count(ANSWERED), flood.count(_REFUSED)
    offered = f"{flood.wanted:,.0f}/s due, {flood.offered:,.0f}/s sent"
    return [
        told("sustainable", before.rate(), "requests/s"),
        told("offered", f"{offered} ({flood.offered / before.rate():.1f} times)"),
        told("accepted of those sent", f"{accepted:,} of {len(flood):,}"),
        at_least(
            "accepted, share of what is sustainable", flood.rate() / before.rate(), _ACCEPTED_SHARE
        ),
        told("p99 at the sustainable rate", before.p99(), "ms"),
        below("p99 of accepted", flood.p99(), _ANSWER_MS, "ms"),
        none_of("neither accepted nor 503", len(flood) - accepted - refused, len(flood)),
        *_refusals(flood, refused),
        told("p99 of /livez", alive.p99(), "ms"),
        below("worst of /livez", alive.worst(), _ANSWER_MS, "ms"),
        none_of("/livez not answered with 200", alive.failed, len(alive) + alive.unsent),
    ]


def _refusals(flood: Outcome, refused: int) -> list[Figure]:
    if not refused:
        return [told("refused", "none")]
    return [
        below("p99 of refused", flood.p99(_REFUSED), _ANSWER_MS, "ms"),
        none_of("503 without Retry-After", refused - flood.retry, refused),
    ]
