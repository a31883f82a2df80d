"""The servers of the contestants, each started with what it needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.server import LARGE_BODIES, Server, free_port, running_service
from benchmarks.serving.contestants import OURS, Peer
from benchmarks.serving.environments import python_of

_QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""Nothing leaves the machine."""


@contextmanager
def running(peer: Peer, folder: Path) -> Iterator[Server]:
    """Run a contestant's server, ready, until the context ends.

    Raises:
        InstallError: it cannot be installed.
        ServerError: it cannot be started.
    """
    if peer.name == OURS:
        with running_service(folder, LARGE_BODIES) as server:
            yield server
        return
    port = free_port()
    python = python_of(peer.name) if peer.isolated else Path(sys.executable)
    module = f"benchmarks.serving.peers.{peer.name}"
    command = [str(python), "-m", module, str(port), str(free_port()), str(folder)]
    environment = {**_QUIET, "BENTOML_HOME": str(folder), "TMPDIR": str(folder)}
    with Server.start(command, port, folder, environment, adopts_orphans=True) as server:
        server.wait_until_ready(peer.ready)
        yield server
