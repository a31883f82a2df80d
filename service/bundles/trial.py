"""Load a bundle in a process of its own before this one does.

The graph of a bundle is a program. One that never ends, takes all memory or crashes in native code
must not do so here, where no thread inside it can be stopped. The process that tries it is killed
at a deadline and has a memory limit; it needs no more than `models`, and so takes half a second.

    python -m service.bundles.trial FOLDER THREADS SECONDS BYTES [KEYS]
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGXCPU, Signals
from typing import TYPE_CHECKING, Any, Final

from models import BundleError, Model

if TYPE_CHECKING:
    from models.signature import TrustedKeys

__all__ = ["StoppedError", "TrialLoader"]

_STEP_SECONDS: Final = 0.05
"""Between two looks whether the service ends."""
_SECRET: Final = ("FAULTCUBE_", "AWS_", "AZURE_", "GOOGLE_", "PG", "OTEL_")
"""How the variables begin that hold keys, also those of object stores, databases and tracing."""
_KILL_SECONDS: Final = 1.0
"""Longest wait for a killed process, which may hang in a file system."""


class StoppedError(BundleError):
    """The service ends; the bundle may be a good one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "the service is ending")


class TrialLoader:
    """Loads bundles, each in a process of its own first.

    Args:
        seconds: deadline of that process.
        most_bytes: memory that it may take for a bundle.
        threads: of one inference.
        trusted: keys, one of which must have signed a bundle; anybody may have made it unless
            given.
    """

    def __init__(
        self,
        seconds: float,
        most_bytes: int,
        threads: int,
        trusted: TrustedKeys | None = None,
    ) -> None:
        self.seconds, self.most_bytes, self.threads = seconds, most_bytes, threads
        self.trusted = trusted
        self._is_stopped = threading.Event()

    def load(self, folder: Path) -> Model:
        """Return the verified model of a folder.

        Raises:
            StoppedError: `stop` was called.
            BundleError: the bundle is refused, by that process or by this one.
        """
        version = self.version(folder)
        # Read and verified again: files may have been exchanged, but these bytes were tried.
        return Model.load(folder, threads=self.threads, version=version, trusted=self.trusted)

    def version(self, folder: Path) -> str:
        """Return the version of a bundle that was loaded in a process of its own.

        Raises:
            StoppedError, BundleError: as `load`.
        """
        if self._is_stopped.is_set():
            raise StoppedError(folder)
        given = [folder, self.threads, self.seconds, self.most_bytes, self.trusted or ""]
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell; the folder is one argument
                [sys.executable, "-P", "-m", "service.bundles.trial", *map(str, given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if not k.startswith(_SECRET)},
                start_new_session=True,  # Ctrl-C is for the service
            )
        except OSError as error:
            reason = f"no process can be started to try it ({error.strerror})"
            raise BundleError(folder, reason) from error
        try:
            answer = self._answer(process, folder)
        finally:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_KILL_SECONDS)
        if "version" not in answer:
            raise BundleError(folder, answer["reason"])
        version: str = answer["version"]
        return version

    def stop(self) -> None:
        """End what is being tried, and try nothing more."""
        self._is_stopped.set()

    def _answer(self, process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            if self._is_stopped.is_set():
                raise StoppedError(folder)
            try:
                output, _ = process.communicate(timeout=_STEP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            if process.returncode == -SIGXCPU:  # its own limit came first
                break
            return _parsed(output, process.returncode)
        return {"reason": f"it took too long: more than {self.seconds:g} s to be loaded"}


def _parsed(output: bytes, status: int) -> dict[str, Any]:
    if status == 0:
        answer: dict[str, Any] = json.loads(output)
        return answer
    how = Signals(-status).name if status < 0 else f"status {status}"
    return {"reason": f"the process that tried to load it ended with {how}"}


def _limit(seconds: float, most_bytes: int) -> None:
    """Limit this process, for the case that nobody is left to end it, too."""
    with suppress(OSError):  # not on every system; where memory is short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        most = pages * resource.getpagesize() + most_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))


def _trusted(keys: str) -> TrustedKeys | None:
    if not keys:
        return None
    from models.signature import TrustedKeys  # noqa: PLC0415 - most trials need none

    return TrustedKeys.parse(keys)


def _main(folder: str, threads: str, seconds: str, most_bytes: str, keys: str = "") -> None:
    _limit(float(seconds) * int(threads), int(most_bytes))
    try:
        model = Model.load(folder, threads=int(threads), trusted=_trusted(keys))
        answer = {"version": model.manifest.version}
    except BundleError as error:
        answer = {"reason": error.reason}
    except MemoryError:
        answer = {"reason": f"it takes more than {most_bytes} bytes of memory"}
    except Exception as error:
        answer = {"reason": f"unexpected {type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
