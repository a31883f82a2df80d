"""Seconds from the last point of a record to the alert that it raises.

    python -m benchmarks.incidents.latency

from the root of the repository: the excerpt is sent to a service that tells a webhook of incidents,
its learning period at once, and the rest five times as fast as it was recorded.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import closing
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness.report import machine, progress
from benchmarks.harness.server import Server, free_port
from models.telemetry.mapping import Mapping
from service.offline.replay import Recording, Sender

_DATA = Path("training/data/cisco-iosxr")
_LEARNED = 260.0
"""Recorded seconds until every device has learned, and until shortly before the first event."""
_SPEED = 5.0


def main() -> None:
    """Measure, and print a line for each incident."""
    recording = Recording(_DATA / "excerpt.parquet", Mapping.read(_DATA / "mapping.toml"))
    told: dict[str, tuple[float, str]] = {}
    sent: list[tuple[float, float]] = []  # recorded time of a body, time of its answer

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            now = time.monotonic()
            document: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            incident = document["incident"]
            if document["event"] == "opened":
                told[incident["id"]] = (now, str(incident["last"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    port = free_port()
    program = Path(sys.executable).parent / "faultcube"
    command = [str(program), "serve", str(Path("models/iosxr").resolve())]
    with TemporaryDirectory() as folder:
        settings = {
            "FAULTCUBE_PORT": str(port),
            "FAULTCUBE_WEBHOOK": f"http://127.0.0.1:{hook.server_port}/",
            "FAULTCUBE_DATABASE_URL": f"sqlite:///{folder}/classes.sqlite",
            "FAULTCUBE_JOURNAL": f"{folder}/journal",
        }
        server = Server.start(command, port, Path(folder), settings)
        with server, closing(Sender(f"http://127.0.0.1:{port}")) as sender:
            server.wait_until_ready()
            begin = float(recording.times[0]) + _LEARNED
            clock = time.monotonic()
            for body in recording.bodies():
                if body.time < begin:
                    clock = time.monotonic()
                else:
                    due = clock + (body.time - begin) / _SPEED
                    time.sleep(max(due - time.monotonic(), 0))
                sender.send(body)
                sent.append((body.time, time.monotonic()))
            time.sleep(2)
    hook.shutdown()
    progress(machine())
    for id_, (moment, last) in told.items():
        recorded = datetime.fromisoformat(last).timestamp()
        carried = max(at for first, at in sent if first <= recorded and at <= moment)
        sys.stdout.write(f"{id_}: {moment - carried:.2f} s after the body of its record\n")


if __name__ == "__main__":
    main()
