"""An incident opens and closes before one's eyes, its records are taught, and that is undone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.support.live_page import Look, Traffic
from tests.support.running import classify

pytestmark = pytest.mark.xdist_group("browser")

AFTER_THE_FIRST = 400.0
"""Second of the excerpt."""
EVIL = "<img src=x onerror=alert(1)> \u202egnp.exe " + "long" * 100


def records_of(url: str, label: str) -> list[dict[str, float]]:
    """The records of a label that the latest incident is taught from."""
    latest = httpx2.get(f"{url}/incidents").json()["incidents"][0]["id"]
    records = httpx2.get(f"{url}/incidents/{latest}").json()["records"]
    return [each["record"] for each in records if each["label"] == label]


def visible(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible()


def test_what_people_write_is_shown_as_text(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    look = looking(network[0], width=390)
    page = look.sign_in()
    look.go("incidents")
    page.get_by_role("link", name="bgp_clear at leaf1").last.click()
    page.get_by_label("Comment").fill(EVIL)
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".comments")).to_contain_text(EVIL)
    assert page.locator("main img").count() == 0
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_incident_is_acknowledged_and_closes_when_its_devices_are_well(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    url, traffic = network
    look = looking(url)
    page = look.sign_in()
    look.go("incidents")
    page.get_by_role("link", name="bgp_clear at leaf1").last.click()
    detail = page.get_by_role("region", name="Incident", exact=True)
    detail.get_by_role("button", name="Acknowledge").click()
    expect(detail).to_contain_text("Acknowledged")
    expect(page.locator("#now")).to_contain_text("acknowledged")
    traffic.until(AFTER_THE_FIRST)
    expect(page.locator("#now")).to_contain_text("No open incident.")
    expect(detail).to_contain_text(re.compile("ended.*lasted 2 min"))
    expect(page.locator("#open-count")).to_be_hidden()


def test_what_cannot_be_loaded_is_said_and_tried_again(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    url, traffic = network
    traffic.go_on()
    page = looking(url).page
    refusal = json.dumps({"detail": "The database is away."})
    asked = re.compile(r"/incidents\?")
    page.route(asked, lambda route: route.fulfill(status=503, body=refusal))
    page.goto(f"{url}/#/network")
    expect(page.locator("#notices")).to_contain_text("tried again: The database is away.")
    expect(page.get_by_role("region", name="Devices")).to_contain_text("leaf1")
    expect(page.locator("#now")).to_be_empty()
    page.unroute(asked)
    expect(page.locator("#now")).not_to_be_empty()
    expect(page.locator("#notices")).not_to_contain_text("The database is away.")


def test_a_taught_class_names_the_next_record_and_is_taken_back(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    url, traffic = network
    look, other = looking(url), looking(url)
    page = look.sign_in()
    traffic.until(AFTER_THE_FIRST)
    watching = other.go("cube")
    watching.get_by_role("button", name="Table").click()
    look.go("incidents")
    page.get_by_role("link", name=re.compile("bgp_clear.* at leaf1")).last.click()
    page.get_by_role("button", name="Teach").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("route storm")  # no name of a class
    dialog.get_by_role("button", name="What would change?").click()
    expect(dialog.get_by_text("What would change", exact=True)).to_have_count(0)
    dialog.get_by_label("Name").fill("route_storm")
    taught = records_of(url, "bgp_clear_elsewhere")[0]
    for row in dialog.locator(".records label").all():
        row.get_by_role("checkbox").set_checked("bgp_clear_elsewhere" in row.inner_text())
    dialog.get_by_role("button", name="What would change?").click()
    report = dialog.get_by_role("region", name="What would change")
    expect(report).to_contain_text("Nearest class: bgp_clear_elsewhere")
    expect(report).to_contain_text("Recent traffic")
    # They are of a class already: the service wants to be told twice.
    expect(report).to_contain_text("they may be of it")
    dialog.get_by_role("button", name="Teach it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("they belong to different classes")
    dialog.get_by_role("button", name="Teach it anyway").click()
    expect(dialog).to_be_hidden()
    visible(page, "route_storm was taught")

    expect(watching.get_by_text("route_storm").first).to_be_attached()
    assert classify(url, json.dumps({"records": [taught]}).encode()) == ["route_storm"]
    expect(watching.get_by_role("region", name="Latest records")).to_contain_text("route_storm")

    page.get_by_role("button", name="Undo").click()
    visible(page, "route_storm was taken back")
    other.go("models")
    classes = watching.get_by_role("region", name="Classes", exact=True)
    expect(classes).to_contain_text("port_flap")
    expect(classes).not_to_contain_text("route_storm")
    expect(watching.get_by_role("region", name="History of the classes")).to_contain_text("revert")


def test_an_incidents_own_records_are_picked_and_its_history_says_that_they_were_taught(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    look = looking(network[0])
    page = look.sign_in()
    look.go("incidents")
    page.get_by_role("link", name=re.compile("bgp_clear.* at leaf1")).last.click()
    page.get_by_role("button", name="Teach").click()
    dialog = page.get_by_role("dialog")
    picked = dialog.locator(".records label:has(:checked)")
    assert {row.split()[-1] for row in picked.all_inner_texts()} == {"bgp_clear"}
    dialog.get_by_label("Name").fill("bgp_reset")
    dialog.get_by_role("button", name="What would change?").click()
    teach_it = dialog.get_by_role("button", name=re.compile("^Teach it"))
    teach_it.click()
    expect(
        dialog.get_by_role("alert").or_(page.get_by_text("bgp_reset was taught"))
    ).to_be_visible()
    if dialog.is_visible():
        teach_it.click()
    page.get_by_role("button", name="Undo").click()
    visible(page, "bgp_reset was taken back")
    look.go("incidents")
    page.get_by_role("link", name=re.compile("bgp_clear.* at leaf1")).last.click()
    expect(page.locator(".history")).to_contain_text("taught it as a class: bgp_reset")


def test_nobody_without_an_admin_key_is_offered_to_change_things(
    network: tuple[str, Traffic], looking: Callable[..., Look]
) -> None:
    page = looking(network[0]).go("incidents")
    page.get_by_role("link", name=re.compile("at leaf1")).last.click()
    visible(page, "with an admin key to acknowledge, close or teach")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
