"""Every view: in both themes, on narrow and wide screens, by keyboard and without eyes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.support.live_page import VIEWS, Look

pytestmark = pytest.mark.xdist_group("browser")

SEEN = {
    "network": "11",
    "cube": "bgp_clear_elsewhere",
    "incidents": "bgp_clear at leaf1",
    "models": "Bundles at hand",
    "health": "telegraf",
}
MOST_BYTES = 400_000
WHEN_USABLE = """
const look = () => {
    const device = document.querySelector("[role=option]")?.textContent ?? "";
    if (device.includes("leaf1")) window.usable = performance.now();
    else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def findings(page: Page) -> list[str]:
    """What axe-core finds that is serious or worse."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def is_cut_off(page: Page) -> bool:
    """Whether something is wider than the screen."""
    wide = "document.documentElement.scrollWidth > innerWidth"
    return bool(page.evaluate(f"{wide} || document.querySelector('main').scrollWidth > innerWidth"))


def test_charts_wait_for_the_library_that_draws_them(
    url: str, looking: Callable[..., Look]
) -> None:
    page, held = looking(url).page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/uPlot.iife.min.js", hold)
    page.goto(f"{url}/#/health", wait_until="commit")
    expect(page.locator("main")).to_contain_text(SEEN["health"])
    expect(page.locator("figure.chart").first).to_be_visible()
    expect(page.locator("figure.chart canvas")).to_have_count(0)
    held[0].continue_()
    expect(page.locator("figure.chart canvas").first).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_view_shows_its_subject_and_is_accessible(
    view: str, theme: str, url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url, theme=theme).go(view)
    expect(page.locator("main")).to_contain_text(SEEN[view])
    expect(page.locator("#now")).to_contain_text("bgp_clear at leaf1")
    expect(page.locator(f"nav [data-view={view}]")).to_have_attribute("aria-current", "page")
    assert findings(page) == []


@pytest.mark.parametrize("width", [390, 2560])
def test_nothing_is_cut_off_on_narrow_and_wide_screens(
    width: int, url: str, looking: Callable[..., Look]
) -> None:
    look = looking(url, width=width)
    for view in (*VIEWS, "network/leaf1"):
        page = look.go(view)
        expect(page.locator("main")).to_contain_text(SEEN.get(view, "What drove its faults"))
        assert not is_cut_off(page), view


def test_the_first_view_is_small_and_soon_usable(
    fresh: str, looking: Callable[..., Look], capsys: pytest.CaptureFixture[str]
) -> None:
    look = looking(fresh)
    look.page.add_init_script(WHEN_USABLE)
    page = look.go("network")
    expect(page.get_by_role("option")).to_contain_text("leaf1: Critical fault")
    ready = page.evaluate("window.usable")
    with capsys.disabled():
        sys.stdout.write(f" [usable after {ready:.0f} ms, {look.received:,} bytes] ")
    assert look.received < MOST_BYTES


def test_a_device_shows_its_last_hour_and_what_drove_its_faults(
    fresh: str, looking: Callable[..., Look]
) -> None:
    page = looking(fresh).go("network/leaf1")
    side = page.get_by_role("complementary", name="Device")
    expect(side).to_contain_text("Critical fault")
    drivers = side.get_by_role("region", name="Fields that drove the faults of the last hour")
    expect(drivers.get_by_role("row").nth(1)).to_contain_text("rel_")
    expect(side.locator(".chart canvas")).to_have_count(1)
    assert side.get_by_role("definition").nth(1).locator("time").get_attribute("title")


def test_the_network_can_be_walked_through_by_keyboard_alone(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).go("network")
    expect(page.get_by_role("option")).to_contain_text("1 of 11")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "listbox":
            break
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("option")).to_contain_text("2 of 11")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="leaf1")).to_be_visible()
    assert page.url.endswith("#/network/leaf1")


def test_devices_are_found_by_name_state_and_in_a_table(
    fresh: str, looking: Callable[..., Look]
) -> None:
    page = looking(fresh).go("network")
    page.get_by_role("button", name="Table").click()
    rows = page.get_by_role("region", name="Devices by trouble").get_by_role("row")
    expect(rows).to_have_count(12)
    expect(rows.nth(1)).to_contain_text("leaf1")
    page.get_by_role("searchbox").fill("spine")
    expect(rows).to_have_count(5)
    page.get_by_role("searchbox").fill("no such device")
    expect(page.get_by_text("No device matches.")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Critical fault").click()
    expect(rows).to_have_count(2)


def test_the_theme_can_be_chosen_and_stays(url: str, looking: Callable[..., Look]) -> None:
    look = looking(url, theme="dark")
    page = look.go("health")
    page.get_by_role("button", name="Use the light theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
