from __future__ import annotations

import html.parser
import io
import json
import re
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from training.reports.animation import as_gif, as_page
from training.reports.animation_data import Animation, Frame, Recording, Selection

CORNERS = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.1], [0.1, 0.9, 0.9]], np.float32)
COMMAND = "faultcube compare --recipe 'a b.toml' --out x"


def an_animation(
    frames: int = 3, names: tuple[str, str, str] = ("ok", "slow", "lossy")
) -> Animation:
    """An animation of twelve records that come nearer to their corners."""
    labels = np.arange(12) % 3
    noise = np.random.default_rng(0).uniform(-0.09, 0.09, (12, 3)).astype(np.float32)
    selection = SimpleNamespace(
        recipe=SimpleNamespace(name="small"),
        dataset=SimpleNamespace(classes=names, test=SimpleNamespace(labels=np.arange(30) % 3)),
        labels=labels,
    )

    def frame(i: int) -> Frame:
        points = CORNERS[labels] + noise / np.float32(i)
        return Frame(i / 8, 1 / i, 0.5 / i, points, CORNERS, 0.7, 0.25, 2.5, 0.95)

    recordings = [
        Recording(loss, tuple(frame(i + 1) for i in range(frames)))
        for loss in ("triplet", "lossless")
    ]
    return Animation(cast("Selection", selection), tuple(recordings))


class Page(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    @property
    def content(self) -> Any:
        return json.loads(self.texts["script"][0])


def test_the_gif_shows_every_frame_holds_the_last_and_is_small() -> None:
    gif = as_gif(an_animation(3))
    image = Image.open(io.BytesIO(gif))
    assert image.n_frames == 3  # type: ignore[attr-defined]
    assert len(gif) < 3_000_000 * 3 / 48
    durations = []
    for i in range(3):
        image.seek(i)
        durations.append(image.info["duration"])
        assert np.asarray(image.convert("RGB")).std() > 10
    assert durations[-1] >= 1000 > durations[0]
    assert image.info["loop"] == 0


def test_names_with_dollars_are_no_formulas() -> None:
    assert as_gif(an_animation(1, ("$ok$", "_sl$ow", "$\\los_{sy$")))


def test_the_same_film_is_the_same_gif() -> None:
    assert as_gif(an_animation(1)) == as_gif(an_animation(1))


def test_the_page_holds_every_point_of_every_frame_to_a_thousandth() -> None:
    film = an_animation(3)
    content = Page(as_page(film, COMMAND)).content
    assert content["command"] == COMMAND
    assert [side["title"] for side in content["sides"]] == [
        "Standard triplet loss",
        "Lossless triplet loss",
    ]
    for side, shown in zip(film.recordings, content["sides"], strict=True):
        assert shown["verdict"] == side.verdict
        for frame, each in zip(side.frames, shown["frames"], strict=True):
            points = np.array(each["points"]).reshape(-1, 3) / content["fine"]
            assert points == pytest.approx(frame.points, abs=5.1e-4)
            assert len(each["centroids"]) == 9
            assert each["caption"]["epoch"] == f"{frame.epochs:g}"
    rows = [each["of"] for each in content["classes"]]
    assert sorted(row for each in rows for row in each) == list(range(12))
    assert content["classes"][1]["name"] == "fault: slow (4 of 10 test rows)"


def test_only_the_lossless_loss_has_a_floor_to_be_over() -> None:
    left, right = Page(as_page(an_animation(1), COMMAND)).content["sides"]
    assert left["frames"][0]["caption"]["loss"] == "1.000"
    assert right["frames"][0]["caption"]["loss"] == "1.000, 0.500 over its floor"


def test_the_page_asks_nobody_for_anything() -> None:
    text = as_page(an_animation(), COMMAND)
    page = Page(text)
    assert not re.search(r"https?:|\burl\(|@import|\bfetch\b|XMLHttp|\bimport\b|WebSocket", text)
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert tag not in ("img", "iframe", "object", "embed", "base")
        if tag == "link":
            assert attributes["href"] == "data:,"
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_worked_by_keyboard_and_read_without_colours() -> None:
    text = as_page(an_animation(), COMMAND)
    tags = dict(Page(text).tags)
    assert tags["html"]["lang"] == "en"
    assert tags["button"]["type"] == "button"
    assert tags["input"]["type"] == "range"
    assert tags["input"]["aria-label"] == "Epoch"
    for needed in (
        "tabIndex = 0",
        "ArrowLeft",
        "prefers-reduced-motion",
        "aria-label",
        "<noscript>",
    ):
        assert needed in text
    assert text.count("ICONS = [") == 1


@pytest.mark.parametrize(
    "name",
    ["</script><script>alert(1)</script>", "<!--<script>", "a'b\"c\\", "{{ name }}", "\u2028"],
)
def test_a_class_can_be_called_anything(name: str) -> None:
    film = replace(an_animation(1, ("ok", name, "lossy")))
    page = Page(as_page(film, f"faultcube {name}"))
    assert len(page.texts["script"]) == 2
    content = page.content
    assert content["classes"][1]["name"] == f"fault: {name} (4 of 10 test rows)"
    assert content["command"] == f"faultcube {name}"


def test_the_page_is_a_file_of_the_package() -> None:
    template = files("training.reports").joinpath("animation.html").read_text(encoding="utf-8")
    assert template.count("{{ film }}") == 1
    assert "{{" not in as_page(an_animation(1), COMMAND)
