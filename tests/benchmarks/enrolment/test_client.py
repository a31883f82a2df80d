from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.enrolment import client
from benchmarks.enrolment.client import AdminClient
from benchmarks.harness.client import ServerError


class _Service(BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = hashlib.sha256(self.headers["X-API-Key"].encode()).hexdigest()
        content = json.dumps({"path": self.path, "key": key, "body": body}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Faultcube-Revision", "7")
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_client_enrols_with_its_key_and_reads_the_revision(port: int) -> None:
    with AdminClient(port) as admin:
        answer = admin.enrol("flap", {"a": 1}, force=True)
        assert (answer.status, answer.revision) == (201, 7)
        assert answer.content["path"] == "/classes?force=true"
        assert answer.content["body"] == {"name": "flap", "records": [{"a": 1}]}
        assert answer.content["key"] == hashlib.sha256(client._KEY.encode()).hexdigest()
        assert admin.enrol("flap", {"a": 1}).content["path"] == "/classes"
        with pytest.raises(ServerError, match="503"):
            admin.classes()
    with AdminClient(1) as admin, pytest.raises((OSError, http.client.HTTPException)):
        admin.classes()
