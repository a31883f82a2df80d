from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.resilience.swaps import bundle_fault, copy_bundle
from models import Bundle


@pytest.mark.parametrize(
    ("head", "version", "fault"),
    [
        ("iosxr/1", "1", None),
        ("iosxr/2", "1", "head and body that name different bundles"),
        ("iosxr/3", "3", "a bundle that is not known"),
    ],
)
def test_an_answer_names_one_bundle_that_is_known(
    head: str, version: str, fault: str | None
) -> None:
    body = f'{{"bundle":{{"name":"iosxr","version":"{version}"}},"results":[]}}'
    opening = f"HTTP/1.1 200 OK\r\nFaultcube-Bundle: {head}\r\n\r\n{body}".encode()
    assert bundle_fault(opening, frozenset("12")) == fault
    assert bundle_fault(b"HTTP/1.1 500 No\r\n\r\n", frozenset("12"))


def test_shelved_bundles_differ_in_their_versions_and_may_be_spoilt(tmp_path: Path) -> None:
    versions = {copy_bundle(tmp_path, name) for name in ("even", "odd")}
    assert len(versions) == 2
    assert {Bundle.read(tmp_path / name).manifest.version for name in ("even", "odd")} == versions
    copy_bundle(tmp_path, "bad", broken=True)
    with pytest.raises(Exception, match=r"encoder\.onnx"):
        Bundle.read(tmp_path / "bad")
