"""A service of its own: closed by keys, empty, with ten thousand devices, and started anew."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from service.offline.replay import Sender
from tests.support import databases
from tests.support.bundles import put_bundle
from tests.support.live_page import DATA, INTO_THE_FIRST, Look, Traffic, digest, polls, serving

pytestmark = pytest.mark.xdist_group("browser")

READ = "key-of-a-reader"
MANY = 10_000
LEARN = 1
AWAY = 40_000
"""Milliseconds in which a database is found to be away, or back."""
SHIPPED = DATA.parents[2] / "models/iosxr"
EVIL = '<b onclick="x">evil</b> \u202e'


def test_a_closed_service_is_opened_by_a_key_and_shows_what_to_paste(
    tmp_path: Path, looking: Callable[..., Look]
) -> None:
    with serving(tmp_path, settings={"FAULTCUBE_READ_KEYS": digest(READ)}) as (_, url):
        look = looking(url)
        page = look.go("cube")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Key").fill("a wrong one")
        page.get_by_role("button", name="Sign in").last.click()
        expect(page.get_by_role("alert")).to_have_text("The service does not know this key.")
        page.get_by_label("Key").fill(READ)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Nothing has come in yet")).to_be_visible()
        expect(page.get_by_role("region", name="Telegraf")).to_contain_text(
            f"{url}/ingest/telegraf"
        )
        expect(page.locator("main")).to_contain_text("make demo")
        expect(page.locator("#serving")).to_contain_text("iosxr")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.locator("#serving")).to_be_empty()


def test_ten_thousand_devices_are_seen_found_and_scrolled_and_a_restart_is_survived(
    tmp_path: Path,
    looking: Callable[..., Look],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Nobody waits for forty records of ten thousand devices.
    mapping = re.sub(r"(?m)^learn = \d+", f"learn = {LEARN}", (DATA / "mapping.toml").read_text())
    (tmp_path / "mapping.toml").write_text(mapping)
    settings = {"FAULTCUBE_MAPPING": str(tmp_path / "mapping.toml")}
    devices = [EVIL, *(f"edge{number}" for number in range(1, MANY))]
    with serving(tmp_path, settings=settings) as (service, url):
        look = looking(url)
        page = look.go("network")
        send_polls(url, devices)
        expect(page.locator(".chips")).to_contain_text("10,000")
        expect(page.get_by_role("option")).to_contain_text(f"{EVIL}")
        frames = page.evaluate(SCROLL)
        with capsys.disabled():
            sys.stdout.write(f" [{MANY:,} devices: longest frame {max(frames):.0f} ms] ")
        page.get_by_role("searchbox").fill("edge9999")
        expect(page.get_by_role("option")).to_contain_text("1 of 1")
        assert page.locator("main b").count() == 0

        assert service.stop() == 0
        expect(page.locator("#connection")).to_contain_text("connection lost since")
    port = int(url.rpartition(":")[2])
    with serving(tmp_path, port, settings=settings) as (_, again):
        expect(page.locator("#connection")).to_have_text("live", timeout=40_000)
        expect(page.locator("#notices")).not_to_contain_text("lost")
        send_polls(again, devices[:5])
        expect(page.get_by_role("button", name="5 Too few fields")).to_be_visible()


def test_another_bundle_is_activated_and_every_page_says_so(
    tmp_path: Path, looking: Callable[..., Look]
) -> None:
    folder = tmp_path / "bundles"
    older, newer = (put_bundle(SHIPPED, folder / f"day{day}", day=day) for day in (1, 2))
    with serving(tmp_path, settings={"FAULTCUBE_BUNDLE": str(folder)}) as (_, url):
        look, other = looking(url), looking(url)
        page, watching = look.sign_in(), other.go("cube")
        expect(watching.locator("#serving")).to_contain_text(newer[:8])
        look.go("models")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator("#notices")).to_contain_text("day1 is served now.")
        expect(watching.locator("#notices")).to_contain_text("Another bundle is served now")
        expect(watching.locator("#serving")).to_contain_text(older[:8])
        expect(page.get_by_role("button", name="Activate")).to_be_visible()


def test_a_database_that_is_away_is_told_until_it_is_back(
    tmp_path: Path, looking: Callable[..., Look]
) -> None:
    with databases.running() as server:
        settings = {"FAULTCUBE_DATABASE_URL": server.database()}
        with serving(tmp_path, settings=settings) as (_, url):
            traffic = Traffic(url)
            traffic.until(INTO_THE_FIRST)
            look = looking(url)
            page = look.sign_in()
            look.go("incidents")
            page.get_by_role("link", name="bgp_clear").first.click()
            acknowledge = page.get_by_role("button", name="Acknowledge")
            expect(acknowledge).to_be_enabled()
            expect(page.locator("#notices")).to_be_empty()

            server.stop()
            notices = page.locator("#notices")
            expect(notices).to_contain_text("The database is away", timeout=AWAY)
            acknowledge.click()
            expect(notices).to_contain_text("It was not done: The database of incidents is away")
            traffic.go_on()
            look.go("network/leaf1")
            expect(page.get_by_role("option")).to_contain_text("leaf1: Critical fault")
            expect(notices).to_contain_text("The database is away", timeout=AWAY)
            look.go("health")
            expect(page.locator("main")).to_contain_text("Databaseaway")

            server.start()
            expect(notices).not_to_contain_text("The database is away", timeout=AWAY)
            look.go("incidents")
            page.get_by_role("link", name="bgp_clear").first.click()
            acknowledge.click()
            expect(page.locator("main")).to_contain_text("acknowledged")


SCROLL = """async () => {
    const box = document.querySelector(".grid-box");
    const frames = [];
    let before = performance.now();
    for (let step = 0; step < 40; step += 1) {
        box.scrollTop = (box.scrollHeight / 40) * step;
        await new Promise(requestAnimationFrame);
        frames.push(performance.now() - before);
        before = performance.now();
    }
    return frames;
}"""


def send_polls(url: str, devices: list[str]) -> None:
    """Send as many polls as make verdicts."""
    sender, now = Sender(url), time.time()
    for number in range(LEARN + 1):
        for body in polls(devices, now - 5 * (LEARN - number)):
            sender.send(body)
    sender.close()
