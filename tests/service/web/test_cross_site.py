from __future__ import annotations

import pytest

from service.web.cross_site import is_cross_site

HOST = (b"host", b"Faultcube.example:8000")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST],
        [HOST, (b"sec-fetch-site", b"same-origin")],
        [HOST, (b"sec-fetch-site", b"none")],
        [HOST, (b"origin", b"http://faultcube.example:8000")],
        [HOST, (b"origin", b"https://FAULTCUBE.example:8000")],
        # A proxy gave it another host, and the browser knows better.
        [(b"host", b"10.0.0.7"), (b"origin", b"https://x"), (b"sec-fetch-site", b"same-origin")],
    ],
)
def test_other_programs_and_the_services_own_page_may(headers: list[tuple[bytes, bytes]]) -> None:
    assert not is_cross_site(dict(headers))


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, (b"sec-fetch-site", b"cross-site")],
        [HOST, (b"sec-fetch-site", b"same-site")],
        [HOST, (b"sec-fetch-site", b"")],
        [HOST, (b"sec-fetch-site", b"Same-Origin, cross-site")],
        [HOST, (b"origin", b"http://evil.example")],
        [HOST, (b"origin", b"http://faultcube.example")],
        [HOST, (b"origin", b"http://faultcube.example:8000.evil.example")],
        [HOST, (b"origin", b"null")],
        [HOST, (b"origin", b"")],
        [HOST, (b"origin", b"http://[")],
        [HOST, (b"origin", b"http://\xff")],
        [(b"origin", b"http://evil.example")],
    ],
)
def test_pages_of_other_sites_may_not(headers: list[tuple[bytes, bytes]]) -> None:
    assert is_cross_site(dict(headers))
