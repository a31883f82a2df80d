"""A service with a live page, traffic for it, and browsers that look at it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from models.telemetry import mapping
from service.offline.replay import Body, Recording, Sender
from tests.support.running import Running, environment, running

__all__ = [
    "ADMIN",
    "CHROMIUM",
    "INTO_THE_FIRST",
    "VIEWS",
    "Look",
    "Traffic",
    "digest",
    "polls",
    "serving",
]

ROOT = Path(__file__).parents[2]
DATA = ROOT / "training/data/cisco-iosxr"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ADMIN = "key-of-an-admin"
INTO_THE_FIRST = 215.0
"""Second of the excerpt at which its first incident is open."""
VIEWS = ("network", "cube", "incidents", "models", "health")
Theme = Literal["dark", "light"]
_SENT_AT_ONCE = 5000


def digest(key: str) -> str:
    """The SHA-256 of a key, as the service is given it."""
    return hashlib.sha256(key.encode()).hexdigest()


@contextmanager
def serving(
    folder: Path, port: int = 0, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Running, str]]:
    """Serve the model that ships, with an admin key and a database in a folder."""
    chosen = {
        "FAULTCUBE_DATABASE_URL": f"sqlite:///{folder}/classes.sqlite",
        "FAULTCUBE_JOURNAL": str(folder / "journal"),
        "FAULTCUBE_ADMIN_KEYS": digest(ADMIN),
    }
    env = environment(**chosen | dict(settings or {}))
    command = f"{Path(sys.executable).parent / 'faultcube'} serve --port {port}"
    with running(command, cwd=ROOT, env=env, seconds=60) as (process, url):
        yield process, url


class Traffic:
    """The excerpt that ships: two BGP clears in 12 minutes of 11 routers, as if they ended now.

    Args:
        url: of the service.
        key: that may read, if one is needed.
    """

    def __init__(self, url: str, key: str = "") -> None:
        recording = Recording(DATA / "excerpt.parquet", mapping.Mapping.read(DATA / "mapping.toml"))
        self._first, self._now = float(recording.times[0]), 0.0
        self._bodies = recording.bodies(time.time() - float(recording.times[-1]))
        self._next = next(self._bodies, None)
        self._url, self._key = url, key

    def until(self, second: float) -> None:
        """Send what was recorded up to a second since the begin, and was not sent yet."""
        self._now = max(self._now, second)
        # A connection of its own, because the service closes idle ones.
        with closing(Sender(self._url, self._key)) as sender:
            while self._next is not None and self._next.time - self._first <= second:
                sender.send(self._next)
                self._next = next(self._bodies, None)

    def go_on(self) -> None:
        """Send a little more, because devices that say nothing for 30 seconds are silent."""
        self.until(self._now + 6)


def polls(devices: Sequence[str], moment: float) -> Iterator[Body]:
    """One gauge of each device at a moment, as Telegraf would send it."""
    for start in range(0, len(devices), _SENT_AT_ONCE):
        metrics = [
            {
                "name": "active-routes-count",
                "tags": {"device": device},
                "fields": {"value": 100},
                "timestamp": round(moment * 1000),
            }
            for device in devices[start : start + _SENT_AT_ONCE]
        ]
        yield Body(moment, len(metrics), json.dumps({"metrics": metrics}).encode())


class Look:
    """A page that is looked at, and what went wrong in it.

    Attributes:
        page: of the browser.
        wrong: errors of its programs, and violations of its policy.
        received: bytes as they were transferred.
    """

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, theme: Theme = "dark"):
        self._context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=theme
        )
        self.url, self.wrong, self.received = url, list[str](), 0
        self.page: Page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        devtools = self._context.new_cdp_session(self.page)
        devtools.send("Network.enable")
        devtools.on("Network.loadingFinished", self._transferred)

    def go(self, route: str) -> Page:
        """Go to a view, anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#/{route}")
        return self.page

    def sign_in(self, key: str = ADMIN) -> Page:
        """Sign in with a key."""
        page = self.go("signin")
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Sign in").last.click()
        page.get_by_role("button", name="Sign out").wait_for()
        return page

    def close(self) -> None:
        """Leave, and complain of what went wrong."""
        self._context.close()
        assert not self.wrong, self.wrong

    def _heard(self, kind: str, text: str) -> None:
        # What the service refuses is told as an error, too, and is tested by what the page says.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.wrong.append(text)

    def _transferred(self, event: dict[str, float]) -> None:
        self.received += int(event["encodedDataLength"])
