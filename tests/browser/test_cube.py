"""The cube: what it draws, its time, and what a click shows."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support.live_page import Look

pytestmark = pytest.mark.xdist_group("browser")


def test_the_axes_say_how_much_they_show(url: str, looking: Callable[..., Look]) -> None:
    page = looking(url).go("cube")
    expect(page.locator(".cube-axes")).to_contain_text("% of the centroids' spread")
    expect(page.locator(".class-name")).to_have_count(4)


def test_a_click_on_a_point_explains_its_record(url: str, looking: Callable[..., Look]) -> None:
    page = looking(url).go("cube")
    canvas = page.locator("canvas")
    expect(canvas).to_have_attribute("data-frames", re.compile(r"\d+"))
    page.get_by_role("button", name="Pause").click()
    spot = page.locator(".class-name", has_text=re.compile("^bgp_clear$")).bounding_box()
    assert spot is not None
    # The records of a class are at its centre, below its name; the pointer says where one is.
    x, top = spot["x"] + spot["width"] / 2, spot["y"] + spot["height"]
    for y in range(int(top), int(top) + 250, 4):
        page.mouse.move(x, y)
        if canvas.evaluate("canvas => canvas.style.cursor") == "pointer":
            page.mouse.click(x, y)
            break
    side = page.get_by_role("complementary", name="Record")
    expect(side).to_contain_text("Distance to every class")
    expect(side.locator(".bars .track")).to_have_count(4)
    expect(side.get_by_text("All 46 fields")).to_be_visible()
    expect(page.locator(".cube-trail")).to_contain_text("Trail of")


def test_time_can_be_held_and_stepped_back(url: str, looking: Callable[..., Look]) -> None:
    page = looking(url).go("cube")
    moment = page.locator(".timeline output")
    expect(moment).to_contain_text("live")
    page.get_by_role("button", name="Back 10 seconds").click()
    expect(moment).to_contain_text("10 s before the newest")
    page.get_by_role("slider").press("Home")
    expect(moment).not_to_contain_text("10 s before the newest")
    page.get_by_role("button", name="Go live").click()
    expect(moment).to_contain_text("live")


def test_classes_can_be_hidden_and_a_table_says_the_same(
    url: str, looking: Callable[..., Look]
) -> None:
    page = looking(url).go("cube")
    expect(page.locator(".cube-legend")).to_contain_text("bgp_clear_elsewhere")
    page.locator(".cube-legend label", has_text="normal").get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="Table").click()
    table = page.get_by_role("region", name="Latest records")
    expect(table).to_contain_text("bgp_clear_elsewhere")
    expect(table).not_to_contain_text("normal")


def test_the_cube_is_turned_by_keys(url: str, looking: Callable[..., Look]) -> None:
    page = looking(url).go("cube")
    name = page.locator(".class-name").first
    expect(name).to_be_visible()
    before = name.evaluate("element => element.style.transform")
    page.locator("canvas").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    expect(name).not_to_have_css("transform", before)
    page.wait_for_function(
        "before => document.querySelector('.class-name').style.transform !== before", arg=before
    )
