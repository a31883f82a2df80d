"""A film as files that show it: a GIF, and a page that plays it."""

from __future__ import annotations

import html
import json
import tempfile
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from models.schema import Matrix
from training.reports.animation_data import Film, Frame, Side

__all__ = ["as_gif", "as_page"]

_STYLES = (("#2e9e4f", "o"), ("#d62728", "^"), ("#ff7f0e", "s"))
"""Colour and marker of good traffic and two faults; no class is told by its colour alone."""
_MIDDLES = (0.25, 0.75)
"""Where the two sides are, as shares of the figure's width."""
_HOLD = 12
"""How often the last frame is shown."""
_FINE = 1000
"""Steps of a coordinate on the page."""


def as_gif(film: Film) -> bytes:
    """Both cubes side by side, slowly turning: GIF, 8 frames a second, the last one held."""
    figure = Figure(figsize=(8, 5.1))
    FigureCanvasAgg(figure)
    legend = figure.legend(handles=_legend(film), loc="lower center", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    sides = [
        (side, _cube(figure, middle), middle)
        for side, middle in zip(film.sides, _MIDDLES, strict=True)
    ]
    count = len(film.sides[0].frames)
    writer = PillowWriter(fps=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        writer.setup(figure, path, dpi=100)
        for i in [*range(count), *[count - 1] * _HOLD]:
            drawn: list[Artist] = []
            for side, axes, middle in sides:
                axes.view_init(elev=18, azim=-70 + 60 * i / count)
                drawn += _points(axes, side.frames[i], film)
                drawn += _words(figure, middle, side, i)
            writer.grab_frame()
            for part in drawn:
                part.remove()
        writer.finish()
        return path.read_bytes()


def _cube(figure: Figure, middle: float) -> Any:
    """An empty cube; matplotlib has no types for axes in three dimensions."""
    axes: Any = figure.add_axes((middle - 0.24, 0.23, 0.48, 0.67), projection="3d")
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.2)
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    for a, b in product(corners, corners):
        if (b - a).sum() == np.abs(b - a).sum() == 1:
            axes.plot(*np.stack([a, b]).T, color="#a0a0a0", lw=0.8)
    return axes


def _points(axes: Any, frame: Frame, film: Film) -> list[Artist]:
    drawn: list[Artist] = []
    for c, (colour, marker) in enumerate(_STYLES):
        x, y, z = frame.points[film.scene.labels == c].T
        drawn.append(axes.scatter(x, y, z, s=14, c=colour, marker=marker, alpha=0.6, lw=0))
        x, y, z = frame.centroids[c : c + 1].T
        drawn.append(
            axes.scatter(x, y, z, s=90, c=colour, marker=marker, edgecolors="black", alpha=1)
        )
    return drawn


def _words(figure: Figure, middle: float, side: Side, i: int) -> list[Artist]:
    last = i == len(side.frames) - 1
    said = [f"{name} {value}" for name, value in _caption(side.frames[i], side).items()]
    lines = [
        (0.95, side.title, 13),
        (0.9, f"{side.outcome} ({side.frames[i].recall:.3f})" if last else "", 10),
        (0.2, "   ".join(said[:3]), 9),
        (0.155, "   ".join(said[3:]), 9),
    ]
    return [figure.text(middle, y, text, ha="center", fontsize=size) for y, text, size in lines]


def _legend(film: Film) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker=marker, ls="", label=name)
        for (colour, marker), name in zip(_STYLES, _names(film), strict=True)
    ]


def _names(film: Film) -> list[str]:
    labels, dataset = film.scene.labels, film.scene.dataset
    return [
        f"{'fault' if c else 'good'}: {name} "
        f"({(labels == c).sum()} of {(dataset.test.labels == c).sum()} test rows)"
        for c, name in enumerate(dataset.classes)
    ]


def _caption(frame: Frame, side: Side) -> dict[str, str]:
    """What is measured in a frame, by name."""
    over = f", {frame.excess_loss:.3f} over its floor" if side.loss == "lossless" else ""
    return {
        "epoch": f"{frame.epochs:g}",
        "loss": f"{frame.loss:.3f}{over}",
        "macro-F1": f"{frame.macro_f1:.3f}",
        "faults apart": f"{frame.gap:.1f} spreads",
        "triplets without loss": f"{frame.zero_loss:.0%}",
    }


def as_page(film: Film, command: str) -> str:
    """One HTML page that asks nobody for anything: to play, to step through and to turn.

    Args:
        film: both sides.
        command: what to type for the same again.
    """
    content = {
        "classes": [
            {"name": name, "colour": colour, "of": (film.scene.labels == c).nonzero()[0].tolist()}
            for c, (name, (colour, _)) in enumerate(zip(_names(film), _STYLES, strict=True))
        ],
        "sides": [
            {
                "title": side.title,
                "verdict": side.verdict,
                "frames": [_shown(frame, side) for frame in side.frames],
            }
            for side in film.sides
        ],
        "fine": _FINE,
        "command": command,
    }
    # In a script element only "<" could end the text early.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = files("training.reports").joinpath("animation.html").read_text(encoding="utf-8")
    name = html.escape(film.scene.recipe.name)
    return page.replace("{{ name }}", name).replace("{{ film }}", data)


def _shown(frame: Frame, side: Side) -> dict[str, Any]:
    return {
        "caption": _caption(frame, side),
        "points": _whole(frame.points),
        "centroids": _whole(frame.centroids),
    }


def _whole(points: Matrix) -> list[int]:
    """Coordinates one after the other, as whole numbers."""
    steps: list[int] = np.rint(points * _FINE).astype(int).ravel().tolist()
    return steps
