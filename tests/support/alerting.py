"""A process that observes part of a recording and tells Alertmanager, until it is killed.

python -m tests.support.alerting DATABASE ALERTMANAGER LAST
"""

from __future__ import annotations

import sys
import threading

from service.classes.database import Store
from service.incidents.storage import Checkpoint
from service.observability.counters import Counters
from service.runtime.incidents import Incidents
from service.settings import Settings
from tests.support.incidents import ROLES, drawn, part

RUN = drawn(
    a="..CCCCCCCCCC........",
    b="....eeeeeeeeeee.....",
    c="......XXXXXXXXXX....",
    d="........FFFFFFFF....",
)


def main(database: str, alertmanager: str, last: int) -> None:
    """Go on from the checkpoint, a batch of five records at a time, and write one half as often."""
    store = Store(database)
    store.prepare()
    incidents = Incidents(Settings(alertmanagers=alertmanager), Counters())
    incidents._engine.roles = ROLES
    incidents.open(store)
    threading.Thread(target=incidents.run, args=[threading.Event()], daemon=True).start()
    checkpoint = incidents.resume("ingest")
    start = checkpoint.position if checkpoint else 0
    for number, first in enumerate(range(start, last, 5)):
        end = min(first + 5, last)
        incidents.observe(part(RUN, slice(first, end)))
        if number % 2:
            incidents.checkpoint(Checkpoint("ingest", end, b""))
    sys.stdout.write("observed\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
