"""Ten times the sustainable load: the service does what it can and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import ANSWERED, Outcome
from benchmarks.harness.process import growth, peak, reset_peak
from benchmarks.harness.report import Figure, Section, at_least, below, info, none_of, progress
from benchmarks.harness.requests import LIVEZ, batch, singles
from benchmarks.harness.server import Server
from benchmarks.resilience.run import Run, livez

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


def measure(run: Run) -> Section:
    """Overload a service with single records, and another one with batches of 100."""
    kinds: dict[str, Callable[[], Iterator[bytes]]] = {
        "1 record": singles,
        "1 record, connecting": lambda: singles(close=True),
        "100 records": lambda: repeat(batch(100)),
    }
    figures: list[Figure] = []
    for name, requests in kinds.items():
        with run.service() as server:
            found = _overload(name, server, requests, run.seconds)
        figures += [replace(figure, what=f"{name}: {figure.what}") for figure in found]
    return Section("Overload", _TEXT, figures)


def _overload(
    name: str, server: Server, requests: Callable[[], Iterator[bytes]], seconds: float
) -> list[Figure]:
    def calm() -> Outcome:
        server.settle()
        stream = Stream(requests(), _CONNECTIONS)
        Load(server.port, [stream]).run(seconds / 6)
        return stream.outcome

    progress(f"overload, {name}: what is sustainable")
    before = calm()
    at_rest = reset_peak(server.pid)
    progress(f"overload, {name}: {_TIMES} times {before.rate():,.0f} requests a second")
    flood = Stream(requests(), _CLIENTS, _TIMES * before.rate())
    alive = livez()
    load = Load(server.port, [flood, alive])
    load.connect(LIVEZ)
    load.run(seconds)
    memory, highest = growth(server.pid, at_rest), peak(server.pid) / 2**20
    progress(f"overload, {name}: afterwards")
    share = calm().rate() / before.rate()
    return [
        *_during(before, flood.outcome, alive.outcome),
        info("peak of resident memory", highest, "MiB"),
        below("memory grew at most by", memory, _MEMORY_MIB, "MiB"),
        at_least("afterwards, share of what was sustainable", share, _AFTERWARDS),
    ]


def _during(before: Outcome, flood: Outcome, alive: Outcome) -> list[Figure]:
    accepted, refused = flood.count(ANSWERED), flood.count(_REFUSED)
    share = flood.rate() / before.rate()
    offered = f"{flood.due_rate:,.0f}/s due, {flood.sent_rate:,.0f}/s sent"
    return [
        info("sustainable", before.rate(), "requests/s"),
        info("offered", f"{offered} ({flood.sent_rate / before.rate():.1f} times)"),
        info("accepted of those sent", f"{accepted:,} of {len(flood):,}"),
        at_least("accepted, share of what is sustainable", share, _ACCEPTED_SHARE),
        info("p99 at the sustainable rate", before.p99(), "ms"),
        below("p99 of accepted", flood.p99(), _ANSWER_MS, "ms"),
        none_of("neither accepted nor 503", len(flood) - accepted - refused, len(flood)),
        *_refusals(flood, refused),
        info("p99 of /livez", alive.p99(), "ms"),
        below("worst of /livez", alive.worst(), _ANSWER_MS, "ms"),
        none_of("/livez not answered with 200", alive.failed, len(alive) + alive.unsent),
    ]


def _refusals(flood: Outcome, refused: int) -> list[Figure]:
    if not refused:
        return [info("refused", "none")]
    return [
        below("p99 of refused", flood.p99(_REFUSED), _ANSWER_MS, "ms"),
        none_of("503 without Retry-After", refused - flood.retry, refused),
    ]
