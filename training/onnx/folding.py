"""Fold a fitted encoder into as few steps as compute the same, for serving.

Steps before scaled values are cut stay elementwise, in the order that keeps huge raw values apart.
Affine steps after it (standardising, batch normalisation, gain, whitening) are merged into the
matrix and bias of the next layer, in float64. Unused views are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.fitting.encoder import CUT, FAR, LINEAR_GAIN, Encoder, Members, Scaling, Whitening
from training.fitting.forest import Forest
from training.fitting.pooling import Pooling

Numbers = npt.NDArray[np.float64]

_APART = 1e20
"""Standard deviations of so many spreads cannot share the quotient by the spread in float32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """x W + b: float64 [in, out] and [out]."""

    weight: Numbers
    bias: Numbers

    def after(self, factor: Numbers, shift: Numbers) -> "Layer":
        """Return the layer that does the same on x as this one on x factor + shift, [in] each."""
        return Layer(factor[:, None] * self.weight, self.bias + shift @ self.weight)

    def then(self, factor: Numbers, shift: Numbers) -> "Layer":
        """Return the layer whose output is this one's times factor plus shift, [out] each."""
        return Layer(self.weight * factor, self.bias * factor + shift)


@dataclass(frozen=True, slots=True)
class Window:
    """A view of numbers: x / divisor, cut to lowest..highest; float64 [numbers] each."""

    divisor: Numbers
    lowest: Numbers
    highest: Numbers


@dataclass(frozen=True, slots=True)
class Part:
    """Adjacent scaled columns of one view: scaled = value * factor + shift, float64 [width]."""

    name: str
    columns: range
    factor: Numbers
    shift: Numbers


@dataclass(frozen=True, slots=True)
class Folded:
    """An encoder for serving."""

    pooling: Pooling | None  # what comes before scaling, unchanged
    scaling: Scaling  # imputation, flags, categories and bins are unchanged
    # windows of the views of numbers: standard, of the distance from the median; log, of
    # sign(u) ln(1 + |u|) with u that distance in spreads
    windows: Mapping[str, Window]  # for whitening
    seen_windows: Mapping[str, Window]  # for members, which see no more than the known ranges
    # seen and plain: names of the parts that members see and that are whitened, in order
    seen: tuple[str, ...]
    # each member's layers, with ReLU between them; without hidden layers, one for all members. The
    # last output is logits
    members: tuple[tuple[Layer, ...], ...]
    plain: tuple[str, ...]
    whitening: Layer | None  # from the plain parts to logits; None without a linear part
    forest: Forest | None  # of unscaled values to points, unchanged
    dimensions: int  # N


def fold(encoder: Encoder) -> Folded:
    """Fold an encoder, as it is in evaluation mode."""
    scaling = encoder.scaling
    windows = {"standard": _standard(scaling), "log": _log(scaling)}
    parts = _parts(scaling, windows["standard"])
    columns = set(encoder.columns.tolist())
    seen = [part for part in parts if set(part.columns) <= columns]
    plain = [part for part in parts if part.columns.stop <= scaling.plain]
    whitening = None
    if encoder.whitening is not None:
        whitening = _behind(plain, _whitening(encoder.whitening))
    return Folded(
        pooling=encoder.pooling,
        scaling=scaling,
        windows=windows,
        seen_windows={
            part.name: _narrowed(windows[part.name], part, encoder)
            for part in seen
            if part.name in windows
        },
        seen=tuple(part.name for part in seen),
        members=tuple((_behind(seen, first), *others) for first, *others in _chains(encoder)),
        plain=tuple(part.name for part in plain),
        whitening=whitening,
        forest=encoder.forest,
        dimensions=encoder.dimensions,
    )


def _standard(scaling: Scaling) -> Window:
    """Return the window of (v - median) / divisor that is affine in (v - centre) / scale, cut."""
    # The median lies within one standard deviation of the mean, so no digits are lost.
    scale, spread = _exact(scaling.scale), _exact(scaling.spread)
    divisor = spread if (scale / spread).max(initial=0) < _APART else scale
    mean = _exact(scaling.centre) - _exact(scaling.median)
    return Window(divisor, (mean - CUT * scale) / divisor, (mean + CUT * scale) / divisor)


def _log(scaling: Scaling) -> Window:
    mean, cut, end = _exact(scaling.mean), CUT * _exact(scaling.deviation), np.log1p(FAR)
    return Window(
        _exact(scaling.spread), (mean - cut).clip(-end, end), (mean + cut).clip(-end, end)
    )


def _narrowed(window: Window, part: Part, encoder: Encoder) -> Window:
    """Return the window cut to the ranges that members see of a view."""
    at = np.searchsorted(encoder.columns.numpy(), np.array(part.columns))
    low, high = (
        (_exact(end)[at] - part.shift) / part.factor for end in (encoder.low, encoder.high)
    )
    return Window(window.divisor, low, high)


def _parts(scaling: Scaling, standard: Window) -> list[Part]:
    """Return the parts of the scaled columns, in order, without empty ones."""
    scale, deviation = _exact(scaling.scale), _exact(scaling.deviation)
    offset = (_exact(scaling.median) - _exact(scaling.centre)) / scale
    categories = sum(count for _, count in scaling.categories)
    maps = {
        "standard": (standard.divisor / scale, offset),
        "flags": _unchanged(len(scaling.flags)),
        "categories": _unchanged(categories),
        "log": (1 / deviation, -_exact(scaling.mean) / deviation),
        "bins": _unchanged(len(scaling.binned)),
    }
    parts, start = [], 0
    for name, (factor, shift) in maps.items():
        columns = range(start, start + len(factor))
        start = columns.stop
        if columns:
            parts.append(Part(name, columns, factor, shift))
    return parts


def _unchanged(width: int) -> tuple[Numbers, Numbers]:
    return np.ones(width), np.zeros(width)


def _behind(parts: list[Part], layer: Layer) -> Layer:
    """Return the layer on the values of these parts, instead of on their scaled columns."""
    factor = np.concatenate([part.factor for part in parts])
    return layer.after(factor, np.concatenate([part.shift for part in parts]))


def _whitening(whitening: Whitening) -> Layer:
    root = LINEAR_GAIN * _exact(whitening.root)
    return Layer(root, -_exact(whitening.mean) @ root)


def _chains(encoder: Encoder) -> list[tuple[Layer, ...]]:
    """Return each member's layers, batch normalisation and gain folded in."""
    modules = [*encoder.body, *encoder.head]
    linear = [module for module in modules if isinstance(module, nn.Linear | Members)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm1d)]
    gains = [1.0] * (len(norms) - 1) + [encoder.gain]
    members = encoder.members if len(linear) > 1 else 1
    layers = [
        _normalised(_layers(module, members), norm, gain)
        for module, norm, gain in zip(linear, norms, gains, strict=True)
    ]
    return list(zip(*layers, strict=True))


def _layers(module: nn.Linear | Members, members: int) -> list[Layer]:
    """Split a layer that holds all members into theirs."""
    weights = _exact(module.weight)
    if isinstance(module, nn.Linear):
        weights = weights.T.reshape(module.in_features, members, -1).swapaxes(0, 1)
    return [Layer(weight, np.zeros(weight.shape[1])) for weight in weights]


def _normalised(layers: list[Layer], norm: nn.BatchNorm1d, gain: float) -> list[Layer]:
    """Return the layers followed by batch normalisation and a gain."""
    mean, variance = _exact(norm.running_mean), _exact(norm.running_var)
    factor = gain / np.sqrt(variance + norm.eps)
    shift = -mean * factor
    if norm.affine:
        factor, shift = factor * _exact(norm.weight), shift * _exact(norm.weight)
        shift += gain * _exact(norm.bias)
    maps = zip(np.split(factor, len(layers)), np.split(shift, len(layers)), strict=True)
    return [layer.then(*affine) for layer, affine in zip(layers, maps, strict=True)]


def _exact(values: Tensor | None) -> Numbers:
    assert values is not None  # noqa: S101
    exact: Numbers = values.detach().numpy().astype(np.float64)
    return exact
