"""A browser, and a service with traffic, for all tests of the live page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.live_page import CHROMIUM, INTO_THE_FIRST, Look, Traffic, serving

PATIENCE = 20_000  # ms


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no browser: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Containers have neither user namespaces for its sandbox nor a graphics card.
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def looking(browser: Browser) -> Iterator[Callable[..., Look]]:
    """Open pages; at the end none of them may have had an error or broken its policy."""
    looks: list[Look] = []

    def look(url: str, **options: Any) -> Look:
        looks.append(Look(browser, url, **options))
        looks[-1].page.set_default_timeout(PATIENCE)
        return looks[-1]

    yield look
    for each in looks:
        each.close()


@pytest.fixture(scope="session")
def network(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Traffic]]:
    """A service whose first incident is open, and more traffic to send."""
    assert browser.is_connected()  # without one, nothing is started
    folder = tmp_path_factory.mktemp("network")
    with serving(folder) as (_, url):
        traffic = Traffic(url)
        traffic.until(INTO_THE_FIRST)
        yield url, traffic


@pytest.fixture
def url(network: tuple[str, Traffic]) -> str:
    return network[0]


@pytest.fixture
def fresh(network: tuple[str, Traffic]) -> str:
    """The same service, just after its devices sent something."""
    network[1].go_on()
    return network[0]
