from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.server.server import greeting, listener
from service.settings import Settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123"),
        ("0.0.0.0", "http://127.0.0.1:8123"),
        ("::", "http://[::1]:8123"),
        ("::1", "http://[::1]:8123"),
        ("example.org", "http://example.org:8123"),
    ],
)
def test_the_greeting_names_an_address_that_can_be_called(host: str, url: str) -> None:
    first, second = greeting(Settings(host=host), 8123, Path("models/iosxr")).splitlines()
    assert f" on {url} (docs: /docs)" in first
    assert f"curl -s {url}/classify " in second


def test_a_bundle_elsewhere_is_named_in_full_and_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = greeting(Settings(bundle=tmp_path), 1, tmp_path / "a b")
    assert f"--data '@{tmp_path}/a b/examples.json'" in text


def test_without_a_bundle_the_greeting_offers_no_request() -> None:
    text = greeting(Settings(), 8123, None)
    assert "http://127.0.0.1:8123/readyz" in text
    assert "curl" not in text


def test_with_a_certificate_the_greeting_says_https() -> None:
    settings = Settings(tls_cert=Path("cert.pem"), tls_key=Path("key.pem"))
    first, second = greeting(settings, 8123, Path("models/iosxr")).splitlines()
    assert " on https://127.0.0.1:8123 " in first
    assert second.startswith("curl -sk https://127.0.0.1:8123/classify ")


def test_an_address_is_taken_as_soon_as_it_is_listened_on() -> None:
    with (
        listener("127.0.0.1", 0) as bound,
        socket.create_connection(bound.getsockname(), timeout=5),
        pytest.raises(OSError, match="in use"),
    ):
        listener(*bound.getsockname())


KEPT = """
import resource
from service.server import server
server._keep_freed_memory()
def serve(times):
    for _ in range(times):
        blocks = [bytearray(8 << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(serve(20), serve(20))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_what_a_large_request_frees_serves_the_next_one() -> None:
    # In a process of its own: what it sets cannot be taken back.
    command = [sys.executable, "-c", KEPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert after - before < 1000  # 20 times 32 MiB are 163,840 pages
