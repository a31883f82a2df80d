"""What comes late, in parts, or not at all: the page shows neither less nor more than there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.support.live_page import Look, digest, serving

pytestmark = pytest.mark.xdist_group("browser")

LISTS = re.compile(r"/incidents\?")
PAGE = 100
STREAMS = """
const asked = window.fetch;
window.opened = [];
window.said = [];
window.fetch = (path, options) => {
    if (path !== "live/events") return asked(path, options);
    const wait = WAITS[window.opened.length] ?? null;
    window.opened.push(performance.now());
    if (wait < 0) return Promise.reject(new TypeError("away"));
    const end = (stream) => wait === null || setTimeout(() => stream.close(), wait);
    return Promise.resolve(new Response(new ReadableStream({ start: end })));
};
addEventListener("DOMContentLoaded", () => {
    const place = document.getElementById("connection");
    new MutationObserver(() => window.said.push(place.textContent)).observe(place,
        { childList: true, characterData: true, subtree: true });
});
"""


def incident(number: int, **more: Any) -> dict[str, Any]:
    """An incident as lists show it; the greater its number, the later it began."""
    minute = f"2026-01-01T{number // 60:02}:{number % 60:02}"
    shown: dict[str, Any] = {"id": f"{number:032x}", "label": "port_flap", "root": f"leaf{number}"}
    shown |= {"severity": "minor", "status": "open", "stale": False, "sequence": 1}
    shown |= {"keys": [f"leaf{number}"], "first": f"{minute}:00Z", "last": f"{minute}:30Z"}
    shown |= {"acknowledged": None, "ended": None}
    return shown | more


class Lists:
    """Answers lists of incidents as the service does, from those it is given.

    Attributes:
        cursors: that were asked for, without a status.
        held: requests that wait for `release`, while `holds`.
    """

    def __init__(self, page: Page, incidents: list[dict[str, Any]]) -> None:
        self._incidents = sorted(incidents, key=lambda each: -int(each["id"], 16))
        self.cursors, self.held, self.holds = list[str](), list[Route](), False
        page.route(LISTS, self._take)

    def release(self) -> None:
        """Answer what was held."""
        self.holds = False
        for route in self.held:
            self._answer(route)

    def _take(self, route: Route) -> None:
        if self.holds:
            self.held.append(route)
        else:
            self._answer(route)

    def _answer(self, route: Route) -> None:
        query = {
            name: each[0] for name, each in parse_qs(urlsplit(route.request.url).query).items()
        }
        status, cursor = query.get("status"), query.get("cursor", "")
        found = [each for each in self._incidents if status in (None, each["status"])]
        found = [each for each in found if not cursor or each["id"] < cursor]
        if cursor and status is None:
            self.cursors.append(cursor)
        more = found[PAGE - 1]["id"] if len(found) > PAGE else None
        route.fulfill(json={"kept": "database", "incidents": found[:PAGE], "next": more})


def hold(page: Page, path: str) -> list[Route]:
    """Keep requests until they are answered by a test."""
    held = list[Route]()

    def take(route: Route) -> None:
        held.append(route)

    page.route(path, take)
    return held


def told(page: Page, program: str, *, of: str = "live", arg: object = None) -> Any:
    """Run a program on a module of the page."""
    return page.evaluate(
        f"async (arg) => {{ const m = await import('/page/{of}.js'); {program} }}", arg
    )


def test_an_incident_that_opens_while_the_list_is_on_its_way_stays(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).page
    lists = Lists(page, [incident(1), incident(2, sequence=7, label="of_the_list")])
    lists.holds = True
    page.goto(f"{url}/#/incidents")
    expect(page.locator("#connection")).to_have_text("live")
    while len(lists.held) < 3:
        page.wait_for_timeout(20)
    for each in (
        incident(1, sequence=2, label="gone_on"),
        incident(2, sequence=6, label="before_the_list"),
        incident(3, label="just_opened"),
    ):
        told(page, "m.know(arg)", arg=each)
    lists.release()
    listed = page.locator(".incident-list")
    expect(listed).to_contain_text("of_the_list")
    expect(listed).to_contain_text("just_opened")
    expect(listed).to_contain_text("gone_on")
    expect(page.locator("#open-count")).to_have_text("3")


@pytest.mark.parametrize("ends", ["after a while", "at once"])
def test_a_stream_that_the_service_ends_is_followed_by_another_and_nothing_is_lost(
    ends: str, url: str, looking: Callable[..., Look]
) -> None:
    page, loads = looking(url).page, list[str]()
    page.on("request", lambda request: loads.append(urlsplit(request.url).path))
    waits = [1200] if ends == "after a while" else [0] * 50
    page.add_init_script(f"const WAITS = {waits};{STREAMS}")
    page.goto(f"{url}/#/network")
    page.wait_for_function("() => window.opened.length > 1")
    if ends == "after a while":
        first, second = page.evaluate("window.opened")
        assert second - first < 1200 + 250
    else:
        page.wait_for_timeout(1500)
        assert page.evaluate("window.opened.length") < 8
    expect(page.locator("#connection")).to_have_text("live")
    assert not any("lost" in text for text in page.evaluate("window.said"))
    assert loads.count("/live/devices") == 1


def test_a_stream_is_lost_when_there_is_no_other_after_it(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).page
    page.add_init_script(f"const WAITS = [1200, -1];{STREAMS}")
    page.goto(f"{url}/#/network")
    expect(page.locator("#notices")).to_contain_text("The connection to the service is lost since")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#notices")).to_be_empty()
    assert page.evaluate("window.opened.length") == 3


def test_all_that_stands_is_counted_and_the_worst_of_it_is_first(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).page
    Lists(page, [incident(1, severity="critical"), *map(incident, range(2, 251))])
    page.goto(f"{url}/#/network")
    expect(page.locator("#open-count")).to_have_text("250")
    expect(page.locator("#now p").first).to_contain_text("port_flap at leaf1 since")
    expect(page.locator("#now")).to_contain_text("and 247 more")


def test_older_incidents_come_page_by_page_also_after_the_list_was_loaded_anew(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).page
    over = {"status": "closed", "ended": "2026-01-02T00:00:00Z"}
    lists = Lists(page, [incident(number, **over) for number in range(1, 251)])
    page.goto(f"{url}/#/incidents")
    entries = page.locator(".incident-list li")
    expect(entries).to_have_count(100)
    older = page.get_by_role("button", name="Older ones")
    older.click()
    expect(entries).to_have_count(200)
    told(page, "await m.loadIncidents()")
    expect(entries).to_have_count(100)
    page.route(LISTS, lambda route: route.abort(), times=1)
    older.click()
    expect(page.locator("#notices")).to_contain_text("could not be loaded: The service does not")
    older.click()
    expect(entries).to_have_count(200)
    expect(page.locator("#notices")).to_be_empty()
    older.click()
    expect(entries).to_have_count(250)
    expect(older).to_be_hidden()
    assert [int(cursor, 16) for cursor in lists.cursors] == [151, 151, 51]


def test_whoever_signs_out_leaves_nothing_behind(
    tmp_path: Path, looking: Callable[..., Look]
) -> None:
    with serving(tmp_path, settings={"FAULTCUBE_READ_KEYS": digest("key-of-a-reader")}) as (_, url):
        page = looking(url).sign_in()
        notices = page.locator("#notices")
        page.route("**/session", lambda route: route.abort(), times=1)
        page.get_by_role("button", name="Sign out").click()
        expect(notices).to_contain_text("You are still signed in: The service does not answer.")

        told(page, "m.notice('taught', { name: 'taught', stays: true })", of="notices")
        told(page, "m.notice('said')", of="notices")
        told(page, "m.teach({ id: '1', label: 'unknown', records: [] })", of="views/teach")
        expect(page.get_by_role("dialog")).to_be_visible()
        held = hold(page, "**/live/devices")
        told(page, "m.load()")
        while not held:
            page.wait_for_timeout(20)
        told(page, "await m.signOut()", of="session")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        with page.expect_event("requestfinished", lambda each: each.url.endswith("/live/devices")):
            held[0].fulfill(json={"devices": [{"key": "leaf1", "label": "secret"}], "total": 1})
        page.wait_for_timeout(100)
        assert told(page, "return [m.live.devices.size, m.live.total, m.live.scene]") == [
            0,
            0,
            None,
        ]
        expect(notices).to_be_empty()


def test_a_view_whose_program_does_not_come_says_so_and_comes_later(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).go("network")
    expect(page.locator("#connection")).to_have_text("live")
    page.route("**/views/models.js", lambda route: route.abort())
    page.get_by_role("link", name="Models").click()
    expect(page.locator("main")).to_have_text(re.compile("^The service does not answer."))
    page.unroute("**/views/models.js")
    expect(page.locator("main")).to_contain_text("Bundles at hand")


def test_devices_that_are_not_shown_are_counted(fresh: str, looking: Callable[..., Look]) -> None:
    page = looking(fresh).page

    def limit(route: Route) -> None:
        found = route.fetch().json()
        route.fulfill(json={"devices": found["devices"][:5], "total": 2000})

    page.route("**/live/devices", limit)
    Lists(page, [])
    page.add_init_script(f"const WAITS = [];{STREAMS}")  # no event brings the others
    page.goto(f"{fresh}/#/network")
    expect(page.locator("#now")).to_contain_text("5 of 2,000 devices are shown: ")
    expect(page.locator("main")).to_contain_text("5 of 2,000 devices are shown.")


def test_a_record_that_was_closed_stays_closed_when_the_records_come(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).page
    held = hold(page, "**/live/records?*")
    page.goto(f"{url}/#/cube?n=1&key=leaf1")
    expect(page.locator(".cube-trail")).to_contain_text("Trail of leaf1")
    page.evaluate("location.hash = '#/cube?key=leaf2'")
    expect(page.locator(".cube-trail")).to_contain_text("Trail of leaf2")
    while not held:
        page.wait_for_timeout(20)
    for route in held:
        route.continue_()
    expect(page.locator(".cube-legend")).to_contain_text(re.compile(r"bgp_clear_elsewhere[1-9]"))
    expect(page.locator(".cube-trail")).to_contain_text("Trail of leaf2")


def test_a_link_in_a_table_keeps_the_focus_when_the_table_is_drawn_anew(
    fresh: str, looking: Callable[..., Look]
) -> None:
    page = looking(fresh).go("network")
    page.get_by_role("button", name="Table").click()
    link = page.get_by_role("region", name="Devices by trouble").get_by_role("link", name="leaf2")
    link.focus()
    link.evaluate("link => (link.dataset.old = 'yes')")
    told(page, "await m.load()")
    expect(link).not_to_have_attribute("data-old", "yes")
    expect(link).to_be_focused()
