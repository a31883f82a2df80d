from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import Model, NearestCentroid
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.live.scene import Projection, Scene
from tests.service.live.conftest import Record, scene_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wide() -> Model:
    """A model of 140 dimensions and four classes."""
    return Model.load(ROOT / "models/iosxr")


def test_three_dimensions_are_the_learned_ones(scene: Scene, model: Model) -> None:
    assert (scene.projection.axes.kind, scene.projection.axes.share) == ("learned", 1.0)
    points = model.rule.centroids
    shown = scene.projection.positions(points)
    np.testing.assert_allclose(shown, points - points.mean(axis=0), atol=1e-6)


def test_centroids_lie_around_the_origin_with_their_radii_in_the_same_unit(
    scene: Scene, model: Model
) -> None:
    positions = np.array([known.position for known in scene.classes])
    np.testing.assert_allclose(positions.mean(axis=0), 0, atol=1e-4)
    # A record at the radius is drawn at the surface of its class's sphere.
    class_, n = scene.classes[0], model.rule.centroids.shape[1]
    at_radius = model.rule.centroids[:1].copy()
    at_radius[0, 0] += np.sqrt(model.rule.radii[0] * n)
    drawn = scene.projection.positions(at_radius)[0]
    assert np.linalg.norm(drawn - class_.position) == pytest.approx(class_.radius, abs=1e-3)


def test_of_more_dimensions_the_directions_in_which_classes_differ_most_are_shown(
    wide: Model,
) -> None:
    projection = Projection.of(wide)
    assert projection.axes.kind == "projection"
    assert projection.axes.share == 1.0  # four points span three directions
    centroids = wide.rule.centroids.astype(np.float64)
    shown = projection.positions(wide.rule.centroids).astype(np.float64)
    for one in range(4):
        for other in range(4):
            distance = np.linalg.norm(centroids[one] - centroids[other])
            assert np.linalg.norm(shown[one] - shown[other]) == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_leave_axes_on_which_their_records_differ(wide: Model, classes: int) -> None:
    names = wide.names[:classes]
    few = wide.with_classes([], without=set(wide.names) - set(names))
    projection = Projection.of(few)
    directions = projection.directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-9)
    assert projection.axes.share == 1.0
    assert wide.reference is not None
    points = wide.encoder.embed(wide.reference.records)
    of_first = projection.positions(points[wide.reference.labels == 0])
    assert (of_first.std(axis=0) > 0.01).all()


def test_axes_that_do_not_show_all_of_the_spread_say_so(wide: Model) -> None:
    rng = np.random.default_rng(0)
    other = wide.with_classes([])
    centroids = rng.random((20, 140), np.float32)
    other.rule = NearestCentroid(centroids, np.full(20, 0.1, np.float32), 0.1)
    share = Projection.of(other).axes.share
    assert 3 / 19 < share < 0.5


def test_a_scene_is_the_same_each_time(wide: Model) -> None:
    one, other = Projection.of(wide), Projection.of(wide)
    np.testing.assert_array_equal(one.directions, other.directions)


def test_one_class_alone_is_drawn_too(wide: Model) -> None:
    alone = wide.with_classes([], without=wide.names[1:])
    positions = Projection.of(alone).positions(wide.rule.centroids)
    assert np.isfinite(positions).all()


def test_enrolled_classes_have_their_severity_and_good_ones_none(
    model: Model, unknown: Record
) -> None:
    records = (SupportRecord(0, unknown),)
    stored = {
        "jitter": StoredClass("jitter", severity="minor", records=records),
        "quiet": StoredClass("quiet", good=True, severity="none", records=records),
    }
    scene = scene_of(model, Snapshot(2, stored))
    shown = {c.name: (c.good, c.enrolled, c.severity) for c in scene.classes}
    assert shown == {
        "normal": (True, False, None),
        "link-down": (False, False, "critical"),
        "overload": (False, False, "major"),
        "jitter": (False, True, "minor"),
        "quiet": (True, True, None),
    }
    assert scene.severities["unknown"] == "indeterminate"


def test_fields_are_named_with_their_unit_and_kind(scene: Scene) -> None:
    fields = {field.name: (field.unit, field.kind) for field in scene.fields()}
    assert fields == {
        "cpu load": ("%", "number"),
        "error rate": ("errors/s", "number"),
        "link up": (None, "boolean"),
        "state": (None, "category"),
        "vendor": (None, "category"),
    }
