"""Real monitoring systems, as they are installed, send to Faultcube for a minute."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.harness.server import free_port
from tests.support.running import environment, eventually, running

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "faultcube"
COLLECTORS = ROOT / "docs" / "collectors"
SECONDS = 60
ADDRESS = "http://127.0.0.1:8000"

Numbers = dict[str, float]


@dataclass
class Client:
    """A monitoring system that ran against the service.

    Attributes:
        receiver: that it sent to.
        log: what it printed.
        sent: samples that it says it has sent; None if it does not count them.
        failures: numbers of it that must be 0.
    """

    receiver: str
    log: str
    sent: float | None
    failures: Numbers


@dataclass
class Run:
    """Clients that ran at the same time, by name, and what the service says afterwards."""

    clients: dict[str, Client]
    skipped: dict[str, str]
    status: dict[str, Any]


@contextmanager
def program(command: list[str], folder: Path) -> Iterator[Path]:
    """Run a program until the block ends, then let it end by itself; gives its log."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            yield log
            process.terminate()
            process.wait(30)
        finally:
            process.kill()
            process.wait(10)


def configured(name: str, url: str, folder: Path, **changes: str) -> Path:
    """Write a configuration of the documentation, with another address of the service."""
    folder.mkdir(exist_ok=True)
    text = (COLLECTORS / name).read_text().replace(ADDRESS, url)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


def metrics_of(port: int) -> Numbers:
    """Read the metrics of a program, summed over their labels."""
    found: Numbers = {}
    for line in httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text.splitlines():
        if match := re.match(r"^(\w+)(?:\{.*\})? ([-+.\deE]+)", line):
            found[match[1]] = found.get(match[1], 0) + float(match[2])
    return found


Start = Callable[[str, Path, ExitStack], Callable[[], Client]]


def collectd(url: str, folder: Path, stack: ExitStack) -> Callable[[], Client]:
    path = configured("collectd.conf", url, folder)
    counted = f'\nLoadPlugin csv\n<Plugin csv>\n  DataDir "{folder}/csv"\n</Plugin>\n'
    settings = (
        f'BaseDir "{folder}"\nPIDFile "{folder}/pid"\nTypesDB "/usr/share/collectd/types.db"\n'
    )
    path.write_text(settings + path.read_text().replace("Interval 10", "Interval 1") + counted)
    log = stack.enter_context(program(["collectd", "-f", "-C", str(path)], folder))

    def outcome() -> Client:
        # A bridge of Docker has hexadecimal digits as its name: its folder may match, too.
        files = [path for path in (folder / "csv").rglob("*-20*") if path.is_file()]
        values = sum(
            len(line.split(",")) - 1 for file in files for line in file.read_text().split()[1:]
        )
        errors = len(re.findall(r"write_http plugin.*(fail|error|status)", log.read_text()))
        return Client("collectd", log.read_text(), values, {"errors": errors})

    return outcome


def prometheus(url: str, folder: Path, stack: ExitStack) -> Callable[[], Client]:
    port = free_port()
    path = configured("prometheus.yml", url, folder, **{"127.0.0.1:9090": f"127.0.0.1:{port}"})
    path.write_text(path.read_text().replace("scrape_interval: 5s", "scrape_interval: 1s"))
    command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    log = stack.enter_context(program(command, folder))

    def outcome() -> Client:
        seen = metrics_of(port)
        of_storage = "prometheus_remote_storage_samples_"
        bad = {n: seen[of_storage + n] for n in ("failed_total", "retried_total")}
        pending = seen[f"{of_storage}pending"]
        return Client("remote_write", log.read_text(), seen[f"{of_storage}total"] - pending, bad)

    return outcome


def vmagent(url: str, folder: Path, stack: ExitStack) -> Callable[[], Client]:
    port = free_port()
    path = configured("vmagent.yml", url, folder, **{"127.0.0.1:8429": f"127.0.0.1:{port}"})
    path.write_text(path.read_text().replace("scrape_interval: 5s", "scrape_interval: 1s"))
    command = ["vmagent", f"-promscrape.config={path}", f"-remoteWrite.url={url}/api/v1/write"]
    command += [f"-httpListenAddr=127.0.0.1:{port}", f"-remoteWrite.tmpDataPath={folder}/data"]
    log = stack.enter_context(program(command, folder))

    def outcome() -> Client:
        seen = metrics_of(port)
        of_write = "vmagent_remotewrite_"
        bad = {
            n: seen.get(of_write + n, 0) for n in ("packets_dropped_total", "retries_count_total")
        }
        return Client("remote_write", log.read_text(), seen[f"{of_write}block_size_rows_sum"], bad)

    return outcome


def opentelemetry(url: str, folder: Path, stack: ExitStack) -> Callable[[], Client]:
    path = configured("otel.py", url, folder)
    log = stack.enter_context(program([sys.executable, str(path)], folder))
    return lambda: Client("otlp", log.read_text(), None, {})


def opentelemetry_js(url: str, folder: Path, stack: ExitStack) -> Callable[[], Client]:
    path = configured("otel.mjs", url, folder)
    packages = ["sdk-metrics", "exporter-metrics-otlp-http", "resources"]
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", *(f"@opentelemetry/{p}" for p in packages)],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    log = stack.enter_context(program(["node", str(path)], folder))
    return lambda: Client("otlp_json", log.read_text(), None, {})


CLIENTS: dict[str, tuple[Start, tuple[str, ...]]] = {
    "collectd": (collectd, ("collectd",)),
    "prometheus": (prometheus, ("prometheus",)),
    "vmagent": (vmagent, ("vmagent",)),
    "opentelemetry": (opentelemetry, ()),
    "opentelemetry_js": (opentelemetry_js, ("node", "npm")),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run all clients that are installed, at the same time."""
    folder = tmp_path_factory.mktemp("collectors")
    env = environment(FAULTCUBE_LOG_REQUESTS="all")
    skipped: dict[str, str] = {}
    with running(f"{PROGRAM} serve --port 0", cwd=ROOT, env=env, seconds=60) as (_, url):

        def status() -> dict[str, Any] | None:
            found: dict[str, Any] = httpx2.get(f"{url}/ingest/status", timeout=30).json()
            return found if found["queued"] == 0 and "refused" not in found else None

        eventually(status, seconds=60)
        with ExitStack() as stack:
            outcomes = {}
            for name, (start, programs) in CLIENTS.items():
                missing = [one for one in programs if shutil.which(one) is None]
                if missing:
                    skipped[name] = f"{missing[0]} is not installed"
                else:
                    outcomes[name] = start(url, folder / name, stack)
            time.sleep(SECONDS + 2)
            clients = {name: outcome() for name, outcome in outcomes.items()}
        return Run(clients, skipped, eventually(status, seconds=60))


@pytest.mark.parametrize("name", CLIENTS)
def test_every_point_of_a_client_is_counted_and_it_has_nothing_to_complain_of(
    run: Run, name: str
) -> None:
    if name in run.skipped:
        pytest.skip(run.skipped[name])
    client = run.clients[name]
    received = run.status["receivers"][client.receiver]
    assert set(client.failures.values()) <= {0}
    assert received["refused"] == {}
    assert received["rejected"] == {}
    assert received["points"] > 100
    if client.sent is not None:
        others = [c.sent or 0 for c in run.clients.values() if c.receiver == client.receiver]
        assert received["points"] >= sum(others)
    if name.startswith("opentelemetry"):
        assert client.log == ""
        assert received["points"] % 5 == 0  # of every export
    complaints = re.findall(
        r"(?i)\b(?:error|failed|cannot).*(?:remote|write|http|export).*", client.log
    )
    assert complaints == []
