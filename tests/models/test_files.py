from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from models.files import read_file


def test_a_file_is_read_up_to_the_bytes_that_it_may_have(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, where 4 are allowed") as caught:
        read_file(tmp_path / "file", 4)
    assert caught.value.errno == errno.EFBIG


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 5) == b"1"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(tmp_path: Path, device: str) -> None:
    (tmp_path / "link").symlink_to(device)
    with pytest.raises(OSError, match="it is no regular file"):
        read_file(tmp_path / "link", 5)


def test_a_pipe_is_not_waited_for_and_a_folder_is_called_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is no regular file"):
        read_file(tmp_path / "pipe", 5)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path, 5)


def test_nothing_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    before = {*Path("/dev/fd").iterdir()}
    for name in ("pipe", "file", "."):
        with pytest.raises(OSError):  # noqa: PT011 - each for its own reason
            read_file(tmp_path / name, 4)
    assert {*Path("/dev/fd").iterdir()} == before
