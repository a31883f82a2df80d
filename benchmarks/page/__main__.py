"""Pictures of the live page for the README: `python -m benchmarks.page`, from the root.

The service replays the excerpt that ships up to a moment at which a fault spreads, and a browser
looks at it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from playwright.sync_api import sync_playwright

from benchmarks.harness.records import ROOT
from benchmarks.harness.server import Server, free_port
from models.telemetry.mapping import Mapping
from service.offline.replay import Recording, Sender

_DATA: Final = ROOT / "training/data/cisco-iosxr"
_SECONDS: Final = 560.0
"""Of the excerpt, which are as if they had just passed."""
_READY_SECONDS: Final = 60.0
_WIDTH, _HEIGHT = 1280, 720
_SETTLE: Final = 3000.0
"""Milliseconds in which points flow in and charts are drawn."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is looked at.

    Attributes:
        name: of the file.
        second: of the excerpt, up to which it is replayed before.
        route: of the page.
        theme: dark or light.
        wait: for a selector that is there once everything is.
        before: selectors to click first.
    """

    name: str
    second: float
    route: str
    theme: Literal["dark", "light"]
    wait: str
    before: Sequence[str] = ()


PICTURES: Final = (
    Picture("network", 275, "network/leaf1", "dark", ".side table"),
    Picture("incident", 275, "incidents", "light", ".evidence table", (".incident",)),
    Picture("cube", _SECONDS, "cube?key=leaf6", "dark", ".class-name"),
)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = ROOT / "docs/images",
    chromium: Annotated[str, typer.Option(help="The browser.")] = "chromium",
) -> None:
    """Take the pictures."""
    program = shutil.which(chromium)
    if program is None:
        sys.exit(f"there is no {chromium}: apt-get install chromium")
    out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(Path(sys.executable).parent / "faultcube"), "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        state = {"XDG_STATE_HOME": folder, "FAULTCUBE_LOG_LEVEL": "warning"}
        state["FAULTCUBE_BUNDLE"] = str(ROOT / "models/iosxr")
        with Server.start(command, port, Path(folder), state):
            url = f"http://127.0.0.1:{port}"
            with closing(Sender(url)) as sender:
                sender.wait(_READY_SECONDS)
                _look(url, sender, out, program)


def _sent(sender: Sender) -> Iterator[float]:
    """Send what was recorded, as if it were of now, and yield the second of each body."""
    recording = Recording(_DATA / "excerpt.parquet", Mapping.read(_DATA / "mapping.toml"))
    first = float(recording.times[0])
    for body in recording.bodies(time.time() - first - _SECONDS):
        sender.send(body)
        yield body.time - first


def _look(url: str, sender: Sender, out: Path, program: str) -> None:
    arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        seconds = _sent(sender)
        for picture in PICTURES:
            next(second for second in seconds if second >= picture.second)
            page = browser.new_page(
                viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=picture.theme
            )
            page.goto(f"{url}/#/{picture.route}")
            for selector in picture.before:
                page.locator(selector).first.click()
            page.locator(picture.wait).first.wait_for()
            path = out / f"{picture.name}.png"
            page.wait_for_timeout(_SETTLE)
            page.screenshot(path=path)
            sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
            page.close()
        browser.close()


if __name__ == "__main__":
    typer.run(main)
