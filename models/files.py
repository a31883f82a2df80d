"""Read files that anybody may have put there: regular ones, of a bounded size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_file"]


def read_file(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file.

    A pipe or a device, which may never end, is not waited for.

    Args:
        path: of the file; links are followed.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` says which.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > most:
            reason = f"it has {status.st_size} bytes, where {most} are allowed"
            raise OSError(errno.EFBIG, reason, str(path))
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(handle)
