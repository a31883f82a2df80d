"""Archives through the command, by every engine, with workers and the command itself killed."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from models import Model
from tests.support.running import environment, eventually

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "faultcube"
MARK = "ARCHIVE_TEST_MARK"
WORKERS = {"local": b"spawn_main", "ray": b"ray::score", "spark": b"pyspark.daemon"}
LIBRARIES = {"local": "os", "ray": "ray", "spark": "pyspark"}
ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(library) is None, reason=f"{library} is not installed"
        ),
    )
    for name, library in LIBRARIES.items()
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tables, which keep two workers busy for some seconds."""
    examples = [dict(record) for record in Model.load(ROOT / "models/iosxr").examples]
    table = pa.Table.from_pylist(examples * 15_000)
    folder = tmp_path_factory.mktemp("archive")
    for month in range(6):
        (folder / f"2026-{month:02}").mkdir()
        pa.parquet.write_table(table, folder / f"2026-{month:02}/records.parquet")
    return folder


class Run:
    """The command, and all processes that came of it."""

    def __init__(self, archive: Path, out: Path, engine: str) -> None:
        self.mark, self.engine, self.out = secrets.token_hex(8), engine, out
        self.process = subprocess.Popen(
            [PROGRAM, "classify", archive, "--out", out, "--engine", engine, "--jobs", "2"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(**{MARK: self.mark}),
        )

    def wait_for_a_part(self) -> None:
        eventually(lambda: [*self.out.rglob("records*.parquet")] or None, seconds=120)

    def kill_a_worker(self) -> None:
        def kill() -> bool | None:
            for pid in self._pids():
                if WORKERS[self.engine] in _read(pid, "cmdline"):
                    os.kill(pid, signal.SIGKILL)
                    return True
            return None

        eventually(kill, seconds=60)

    def ended(self) -> str:
        _, errors = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, errors
        return errors

    def end(self) -> None:
        with self.process:
            self.process.kill()
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if wanted in _read(pid, "environ")]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, bytes]]:
    out = tmp_path_factory.mktemp("out") / "verdicts"
    run = Run(archive, out, "local")
    try:
        assert "360,000 records" in run.ended()
        yield content(out)
    finally:
        run.end()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_and_a_killed_command_lose_and_double_nothing(
    archive: Path, undisturbed: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "verdicts"
    first = Run(archive, out, engine)
    try:
        first.wait_for_a_part()
        first.process.kill()
    finally:
        first.end()
    second = Run(archive, out, engine)
    try:
        second.kill_a_worker()
        assert "were done before" in second.ended()
    finally:
        second.end()
    assert content(out) == undisturbed
