"""The fitted encoder in as few steps as compute the same: what serving runs, not what learns.

Every step up to the cut of scaled values stays elementwise, and in the order that keeps huge raw
values apart. All that is affine behind the cut (standardising, batch normalisation, gain, the mean
and the weight of whitening) becomes part of the matrix and the bias of the layer it leads to,
multiplied out in float64. Views that nobody looks at are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.fitting.encoder import CUT, FAR, LINEAR_GAIN, Encoder, Members, Scaling, Whitening

__all__ = ["Folded", "Layer", "Part", "Window", "fold"]

Numbers = npt.NDArray[np.float64]

_APART = 1e20
"""Standard deviations that are so many times the spread cannot share its quotient in float32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """x W + b: float64 [in, out] and [out]."""

    weight: Numbers
    bias: Numbers

    def after(self, factor: Numbers, shift: Numbers) -> Layer:
        """This layer on x factor + shift, for both float64 [in]."""
        return Layer(factor[:, None] * self.weight, self.bias + shift @ self.weight)

    def then(self, factor: Numbers, shift: Numbers) -> Layer:
        """Its answer times a factor, plus a shift, for both float64 [out]."""
        return Layer(self.weight * factor, self.bias * factor + shift)


@dataclass(frozen=True, slots=True)
class Window:
    """A view of numbers: (x / divisor) cut to a lowest and a highest value, float64 [numbers]."""

    divisor: Numbers
    lowest: Numbers
    highest: Numbers


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of scaled columns, and the affine map that was left out behind its cut.

    Attributes:
        name: standard, flags, categories, log or bins.
        columns: where its columns are among the scaled ones.
        factor, shift: float64 [width]; scaled = value * factor + shift.
    """

    name: str
    columns: range
    factor: Numbers
    shift: Numbers


@dataclass(frozen=True, slots=True)
class Folded:
    """An encoder for serving.

    Attributes:
        scaling: imputation, flags, categories and bins are as they were.
        standard: of the distance from the median.
        log: of that distance in spreads, u: sign(u) ln(1 + |u|) is cut.
        seen: names of the parts that members see, in order.
        members: each member's layers, with ReLU between them; a single one for all members when
            there is no hidden layer. The last one's answers are logits.
        plain: names of the parts that are whitened, in order.
        whitening: from those to logits; None when there is no linear part.
        dimensions: N.
    """

    scaling: Scaling
    standard: Window
    log: Window
    seen: tuple[str, ...]
    members: tuple[tuple[Layer, ...], ...]
    plain: tuple[str, ...]
    whitening: Layer | None
    dimensions: int


def fold(encoder: Encoder) -> Folded:
    """Fold an encoder, as it is in evaluation mode."""
    scaling = encoder.scaling
    standard, log = _standard(scaling), _log(scaling)
    parts = _parts(scaling, standard)
    columns = set(encoder.columns.tolist())
    seen = [part for part in parts if set(part.columns) <= columns]
    plain = [part for part in parts if part.columns.stop <= scaling.plain]
    whitening = None
    if encoder.whitening is not None:
        whitening = _behind(plain, _whitening(encoder.whitening))
    return Folded(
        scaling=scaling,
        standard=standard,
        log=log,
        seen=tuple(part.name for part in seen),
        members=tuple((_behind(seen, first), *others) for first, *others in _chains(encoder)),
        plain=tuple(part.name for part in plain),
        whitening=whitening,
        dimensions=encoder.dimensions,
    )


def _standard(scaling: Scaling) -> Window:
    """(v - centre) / scale, cut, is (v - median) / divisor, cut elsewhere, up to an affine map.

    The median lies within one standard deviation of the mean, so that no digits are lost.
    """
    scale, spread = _exact(scaling.scale), _exact(scaling.spread)
    divisor = spread if (scale / spread).max(initial=0) < _APART else scale
    mean = _exact(scaling.centre) - _exact(scaling.median)
    return Window(divisor, (mean - CUT * scale) / divisor, (mean + CUT * scale) / divisor)


def _log(scaling: Scaling) -> Window:
    mean, deviation = _exact(scaling.mean), _exact(scaling.deviation)
    end = np.log1p(FAR)
    lowest, highest = mean - CUT * deviation, mean + CUT * deviation
    return Window(_exact(scaling.spread), lowest.clip(-end, end), highest.clip(-end, end))


def _parts(scaling: Scaling, standard: Window) -> list[Part]:
    """The parts of the scaled columns, in order; empty ones are left out."""
    scale, deviation = _exact(scaling.scale), _exact(scaling.deviation)
    offset = (_exact(scaling.median) - _exact(scaling.centre)) / scale
    flags, bins = len(scaling.flags), len(scaling.binned)
    categories = sum(count for _, count in scaling.categories)
    maps = {
        "standard": (standard.divisor / scale, offset),
        "flags": _unchanged(flags),
        "categories": _unchanged(categories),
        "log": (1 / deviation, -_exact(scaling.mean) / deviation),
        "bins": _unchanged(bins),
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
    """The layer on the values of these parts, instead of their scaled columns."""
    factor = np.concatenate([part.factor for part in parts])
    shift = np.concatenate([part.shift for part in parts])
    return layer.after(factor, shift)


def _whitening(whitening: Whitening) -> Layer:
    root = LINEAR_GAIN * _exact(whitening.root)
    return Layer(root, -_exact(whitening.mean) @ root)


def _chains(encoder: Encoder) -> list[tuple[Layer, ...]]:
    """Each member's layers, batch normalisation and gain folded in."""
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
    """The members' own parts of a layer that holds all of them."""
    weight = _exact(module.weight)
    if isinstance(module, nn.Linear):
        weight = weight.T.reshape(module.in_features, members, -1).swapaxes(0, 1)
    return [Layer(each, np.zeros(each.shape[1])) for each in weight]


def _normalised(layers: list[Layer], norm: nn.BatchNorm1d, gain: float) -> list[Layer]:
    """The layers with batch normalisation behind them, and a gain behind that."""
    mean, variance = _exact(norm.running_mean), _exact(norm.running_var)
    factor = gain / np.sqrt(variance + norm.eps)
    shift = -mean * factor
    if norm.affine:
        factor, shift = factor * _exact(norm.weight), shift * _exact(norm.weight)
        shift += gain * _exact(norm.bias)
    maps = zip(np.split(factor, len(layers)), np.split(shift, len(layers)), strict=True)
    return [layer.then(*each) for layer, each in zip(layers, maps, strict=True)]


def _exact(values: Tensor | None) -> Numbers:
    assert values is not None  # noqa: S101
    exact: Numbers = values.detach().numpy().astype(np.float64)
    return exact
