"""Render the animation as a GIF, and as a page that plays it."""

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
from training.reports.animation_data import Animation, Frame, Recording

_STYLES = (("#2e9e4f", "o"), ("#d62728", "^"), ("#ff7f0e", "s"))
"""Colour and marker of good traffic and two faults; colour alone would not do for everybody."""
_CENTRES = (0.25, 0.75)  # Centres of the two cubes, as shares of the figure's width
_HOLD = 12  # Repetitions of the last frame
_STEPS = 1000  # Steps of a coordinate on the page


def as_gif(animation: Animation) -> bytes:
    """Render both cubes side by side, slowly turning: 8 frames a second, the last one held."""
    figure = Figure(figsize=(8, 5.1))
    FigureCanvasAgg(figure)
    legend = figure.legend(
        handles=[
            Line2D([], [], color=colour, marker=marker, ls="", label=name)
            for (colour, marker), name in zip(_STYLES, _names(animation), strict=True)
        ],
        loc="lower center",
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # names may hold dollars
    cubes = [_cube(figure, centre) for centre in _CENTRES]
    count = len(animation.recordings[0].frames)
    writer = PillowWriter(fps=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        writer.setup(figure, path, dpi=100)
        for i in [*range(count), *[count - 1] * _HOLD]:
            artists: list[Artist] = []
            for recording, axes, centre in zip(animation.recordings, cubes, _CENTRES, strict=True):
                axes.view_init(elev=18, azim=-70 + 60 * i / count)
                artists += _draw_points(axes, recording.frames[i], animation)
                artists += _draw_captions(figure, centre, recording, i)
            writer.grab_frame()
            for artist in artists:
                artist.remove()
        writer.finish()
        return path.read_bytes()


def _cube(figure: Figure, centre: float) -> Any:
    """Draw an empty cube; matplotlib has no types for axes in three dimensions."""
    axes: Any = figure.add_axes((centre - 0.24, 0.23, 0.48, 0.67), projection="3d")
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.2)
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    for a, b in product(corners, corners):
        if (b - a).sum() == np.abs(b - a).sum() == 1:
            axes.plot(*np.stack([a, b]).T, color="#a0a0a0", lw=0.8)
    return axes


def _draw_points(axes: Any, frame: Frame, animation: Animation) -> list[Artist]:
    artists: list[Artist] = []
    for c, (colour, marker) in enumerate(_STYLES):
        style = {"c": colour, "marker": marker}
        points = frame.points[animation.selection.labels == c]
        artists.append(axes.scatter(*points.T, s=14, alpha=0.6, lw=0, **style))
        centroid = frame.centroids[c : c + 1]
        artists.append(axes.scatter(*centroid.T, s=90, edgecolors="black", alpha=1, **style))
    return artists


def _draw_captions(figure: Figure, centre: float, recording: Recording, i: int) -> list[Artist]:
    frame, last = recording.frames[i], i == len(recording.frames) - 1
    texts = [f"{name} {value}" for name, value in _caption(frame, recording).items()]
    lines = [
        (0.95, recording.title, 13),
        (0.9, f"{recording.outcome} ({frame.recall:.3f})" if last else "", 10),
        (0.2, "   ".join(texts[:3]), 9),
        (0.155, "   ".join(texts[3:]), 9),
    ]
    return [figure.text(centre, y, text, ha="center", fontsize=size) for y, text, size in lines]


def _names(animation: Animation) -> list[str]:
    labels, dataset = animation.selection.labels, animation.selection.dataset
    return [
        f"{'fault' if c else 'good'}: {name} "
        f"({(labels == c).sum()} of {(dataset.test.labels == c).sum()} test rows)"
        for c, name in enumerate(dataset.classes)
    ]


def _caption(frame: Frame, recording: Recording) -> dict[str, str]:
    """Return the measurements of a frame, by name."""
    excess = f", {frame.excess_loss:.3f} over its floor" if recording.loss == "lossless" else ""
    return {
        "epoch": f"{frame.epochs:g}",
        "loss": f"{frame.loss:.3f}{excess}",
        "macro-F1": f"{frame.macro_f1:.3f}",
        "faults apart": f"{frame.gap:.1f} spreads",
        "triplets without loss": f"{frame.zero_loss:.0%}",
    }


def as_page(animation: Animation, command: str) -> str:
    """Render one HTML page, to play, to step through and to turn, that loads nothing else.

    `command` is the command that reproduces it.
    """
    labels = animation.selection.labels
    content = {
        "classes": [
            {"name": name, "colour": colour, "of": (labels == c).nonzero()[0].tolist()}
            for c, (name, (colour, _)) in enumerate(zip(_names(animation), _STYLES, strict=True))
        ],
        "sides": [
            {
                "title": recording.title,
                "verdict": recording.verdict,
                "frames": [
                    {
                        "caption": _caption(frame, recording),
                        "points": _in_steps(frame.points),
                        "centroids": _in_steps(frame.centroids),
                    }
                    for frame in recording.frames
                ],
            }
            for recording in animation.recordings
        ],
        "fine": _STEPS,
        "command": command,
    }
    # Only "<" could end the script element early.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = files("training.reports").joinpath("animation.html").read_text(encoding="utf-8")
    name = html.escape(animation.selection.recipe.name)
    return page.replace("{{ name }}", name).replace("{{ film }}", data)


def _in_steps(points: Matrix) -> list[int]:
    """Return coordinates one after the other, as whole numbers."""
    steps: list[int] = np.rint(points * _STEPS).astype(int).ravel().tolist()
    return steps
