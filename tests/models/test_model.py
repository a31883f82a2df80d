from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Bundle, BundleError
from models.encoder import EncoderError
from models.model import Model, Verdict
from models.names import UNKNOWN
from models.schema import Field, RecordError
from models.support import ROUNDING, support_radius

Record = dict[str, object]
MakeBundle = Callable[..., Bundle]
MakeGraph = Callable[..., bytes]

RECORDS = st.fixed_dictionaries(
    {
        "latency": st.floats(-1e38, 1e38) | st.floats(0, 200),
        "up": st.booleans(),
        "link": st.sampled_from(["fiber", "copper", "radio"]),
        "vendor": st.sampled_from(["acme", "zenith"]) | st.text(max_size=5),
    },
    optional={"drops": st.none() | st.floats(0, 200)},
)


def refusal(bundle: Bundle, folder: Path) -> str:
    """Why `Model.load` refuses the bundle: it may raise nothing but a BundleError."""
    bundle.write(folder)
    assert Bundle.read(folder) == bundle  # hashes and version are right
    with pytest.raises(BundleError) as caught:
        Model.load(folder)
    assert caught.value.path == folder
    assert str(folder) in str(caught.value)
    return caught.value.reason


def test_a_loaded_model_says_what_the_made_one_says(
    model: Model, folder: Path, examples: list[Record]
) -> None:
    loaded = Model.load(folder, threads=2)
    assert loaded.manifest == model.manifest
    assert loaded.classify(examples) == model.classify(examples)


def test_each_example_is_accepted_by_its_own_class(model: Model, examples: list[Record]) -> None:
    assert model.examples == examples
    verdicts = model.classify(examples)
    assert [verdict.label for verdict in verdicts] == ["good", "congested", "down"]
    assert [verdict.good for verdict in verdicts] == [True, False, False]
    for verdict in verdicts:
        assert verdict.distance == pytest.approx(0, abs=1e-6)
        assert verdict.confidence > 0.99
        assert verdict.nearest is None
        assert verdict.distances is None


def test_a_record_far_from_every_class_is_unknown_and_names_the_nearest(
    model: Model, examples: list[Record]
) -> None:
    [verdict] = model.classify([{**examples[0], "latency": 50}])
    assert (verdict.label, verdict.good, verdict.nearest) == (UNKNOWN, False, "good")
    assert verdict.distance > 0.05


def test_distances_to_every_class_are_told_when_asked_for(
    model: Model, examples: list[Record]
) -> None:
    first, second, _ = model.classify(examples, distances=True)
    assert first.distances is not None
    assert second.distances is not None
    assert list(first.distances) == ["good", "congested", "down"]
    assert first.distances["good"] == first.distance
    assert first.distances["congested"] == pytest.approx(second.distances["good"], abs=1e-6)


@settings(deadline=None)
@given(records=st.lists(RECORDS, max_size=6))
def test_verdicts_hold_together(model: Model, records: list[Record]) -> None:
    verdicts = model.classify(records, distances=True)
    assert len(verdicts) == len(records)
    radii = {known.name: known.radius for known in model.manifest.classes}
    for verdict in verdicts:
        assert verdict.distances is not None
        nearest = verdict.nearest or verdict.label
        assert verdict.distance == verdict.distances[nearest] == min(verdict.distances.values())
        assert 0 <= verdict.distance <= 1
        assert 1 / 3 - 1e-6 <= verdict.confidence <= 1
        assert verdict.good == (verdict.label == "good")
        assert (verdict.label == UNKNOWN) == (verdict.nearest is not None)
        assert (verdict.label == UNKNOWN) == (verdict.distance > np.float32(radii[nearest]))


@settings(deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=6))
def test_a_record_alone_gets_the_verdict_that_it_gets_in_a_batch(
    model: Model, records: list[Record]
) -> None:
    for record, together in zip(records, model.classify(records), strict=True):
        [alone] = model.classify([record])
        assert alone.distance == pytest.approx(together.distance, abs=1e-5)
        assert alone.confidence == pytest.approx(together.confidence, abs=1e-3)
        if abs(together.distance - 0.05) > 1e-4 and together.confidence > 0.6:
            assert (alone.label, alone.nearest) == (together.label, together.nearest)


def test_embed_and_decide_are_the_two_halves_of_classify(
    model: Model, examples: list[Record]
) -> None:
    matrix = model.schema.encode(examples)
    decisions = model.decide(matrix)
    assert model.verdicts(decisions, Verdict) == model.classify(examples)
    np.testing.assert_array_equal(model.embed(examples), model.encoder.embed(matrix))
    expected = [known.centroid for known in model.manifest.classes]
    np.testing.assert_allclose(model.embed(examples), expected, atol=1e-6)


def test_no_records_get_no_verdicts(model: Model) -> None:
    assert model.classify([]) == []
    assert model.classify([], distances=True) == []
    assert model.embed([]).shape == (0, 3)


def test_a_record_that_does_not_fit_is_refused(model: Model, examples: list[Record]) -> None:
    for call in (model.classify, model.embed):
        with pytest.raises(RecordError, match="record 1, field 'latency'"):
            call([examples[0], {**examples[0], "latency": "10"}])


def test_threads_may_share_a_model(model: Model, examples: list[Record]) -> None:
    batches = [[{**examples[0], "latency": float(i)}] * 3 for i in range(100)]
    expected = [model.classify(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(model.classify, batches)) == expected


def test_a_verdict_cannot_be_changed(model: Model, examples: list[Record]) -> None:
    [verdict] = model.classify(examples[:1])
    assert verdict == Verdict("good", True, verdict.distance, verdict.confidence)
    with pytest.raises(AttributeError):
        verdict.label = "fine"  # type: ignore[misc]


def test_a_bundle_that_cannot_be_read_is_not_loaded(folder: Path) -> None:
    (folder / "card.md").unlink()
    with pytest.raises(BundleError, match=r"card\.md cannot be read"):
        Model.load(folder)


@pytest.mark.parametrize("graph", [b"", b"garbage" * 50, b"\x08\x09", b"\xff" * 64])
def test_a_graph_that_is_none_is_refused(
    make_bundle: MakeBundle, tmp_path: Path, graph: bytes
) -> None:
    assert "graph" in refusal(make_bundle({"encoder.onnx": graph}), tmp_path / "small")


@pytest.mark.parametrize("shape", [(4, 3), (6, 3), (5, 2), (5, 4), (3, 5)])
def test_an_encoder_of_another_width_is_refused(
    make_bundle: MakeBundle, make_graph: MakeGraph, tmp_path: Path, shape: tuple[int, int]
) -> None:
    graph = make_graph(np.zeros(shape, dtype=np.float32))
    reason = refusal(make_bundle({"encoder.onnx": graph}), tmp_path / "small")
    assert "fields and dimensions" in reason


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1, 0.5), (1, -0.5), (100, 0), (0, 0), (0, 1), (float("nan"), 0), (float("inf"), 0)],
)
def test_an_encoder_that_leaves_the_unit_cube_is_refused(
    make_bundle: MakeBundle, make_graph: MakeGraph, tmp_path: Path, scale: float, shift: float
) -> None:
    graph = make_graph(scale=scale, shift=shift)
    reason = refusal(make_bundle({"encoder.onnx": graph}), tmp_path / "small")
    assert reason == "the encoder's answer to the bundle's examples is outside (0, 1)"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_an_encoder_of_one_batch_size_is_refused(
    make_bundle: MakeBundle, make_graph: MakeGraph, tmp_path: Path, batch: int
) -> None:
    assert refusal(make_bundle({"encoder.onnx": make_graph(batch=batch)}), tmp_path / "small")


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_spoiled_graph_makes_a_model_or_an_encoder_error(
    make_bundle: MakeBundle, make_graph: MakeGraph, place: int, byte: int
) -> None:
    graph = bytearray(make_graph())
    graph[place % len(graph)] = byte
    try:
        model = Model(make_bundle({"encoder.onnx": bytes(graph)}))
    except EncoderError:
        return
    points = model.embed(model.examples)
    assert np.all((points > 0) & (points < 1))


def with_records(*records: object) -> bytes:
    return json.dumps({"records": records}).encode()


GOOD: Record = {"latency": 10, "up": True, "link": "fiber", "vendor": "acme"}
BAD_EXAMPLES = {
    "nothing": b"",
    "no JSON": b"records: []",
    "JSON cut off": with_records(GOOD)[:-3],
    "no text": b"\xff\xfe\xfd",
    "endless nesting": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "a string": b'"records"',
    "no records": b"{}",
    "records of null": b'{"records": null}',
    "records of a number": b'{"records": 3}',
    "records of true": b'{"records": true}',
    "records that are a string": b'{"records": "abc"}',
    "records that are an object": json.dumps({"records": {"latency": 1}}).encode(),
    "an empty list": with_records(),
    "an empty string": b'{"records": ""}',
    "an empty object": b'{"records": {}}',
    "a record that is null": with_records(None),
    "a record without fields": with_records({}),
    "a record that does not fit": with_records(GOOD, {**GOOD, "link": "laser"}),
    "a record with NaN": with_records(GOOD, {**GOOD, "latency": float("nan")}),
    "a record with a field too many": with_records({**GOOD, "colour": "red"}),
    "a number beyond float32": with_records({**GOOD, "latency": 10**400}),
}


@pytest.mark.parametrize("what", BAD_EXAMPLES)
def test_examples_that_are_none_are_refused(
    make_bundle: MakeBundle, tmp_path: Path, what: str
) -> None:
    reason = refusal(make_bundle({"examples.json": BAD_EXAMPLES[what]}), tmp_path / "small")
    assert "example" in reason


def test_a_schema_with_two_fields_of_one_name_is_refused(
    make_bundle: MakeBundle, model: Model, tmp_path: Path
) -> None:
    fields: list[Field] = [*model.manifest.fields[:4], model.manifest.fields[0]]
    content: dict[str, Any] = {"fields": fields}
    try:
        bundle = make_bundle(**content)
    except ValueError as error:
        assert "share a name" in str(error)  # noqa: PT017
        return
    assert "share a name" in refusal(bundle, tmp_path / "small")


def test_an_enrolled_class_decides_beside_those_of_the_bundle(
    model: Model, examples: list[Record]
) -> None:
    odd = {**examples[0], "latency": 50}
    points = model.embed([odd])
    other = model.with_classes([model.enrol("odd", points)])
    [verdict] = other.classify([odd], distances=True)
    assert (verdict.label, verdict.good, verdict.distance) == ("odd", False, 0)
    assert [*(verdict.distances or {})] == other.names == [*model.names, "odd"]
    assert [each.label for each in other.classify(examples)] == ["good", "congested", "down"]
    assert model.classify([odd])[0].label == UNKNOWN
    assert other.rule.support is not None
    assert other.rule.support.tolist() == [np.inf, np.inf, np.inf, 1]
    radii = np.array([known.radius for known in model.manifest.classes], np.float32)
    radius = np.float32(support_radius(points, radii, 0.01) + ROUNDING)
    assert other.rule.radii[3] == radius


def test_an_enrolled_class_may_be_good_traffic(model: Model, examples: list[Record]) -> None:
    odd = {**examples[0], "latency": 50}
    [verdict] = model.with_classes([model.enrol("fine", model.embed([odd]), good=True)]).classify(
        [odd]
    )
    assert (verdict.label, verdict.good) == ("fine", True)


def test_a_class_of_the_bundle_may_be_left_out(model: Model, examples: list[Record]) -> None:
    other = model.with_classes([], without=["congested", "no such class"])
    assert other.names == ["good", "down"]
    assert other.rule.support is None
    assert [each.nearest or each.label for each in other.classify(examples)][1] != "congested"
    assert [each.label for each in other.classify(examples)][::2] == ["good", "down"]


def test_very_many_classes_are_told_apart(model: Model, examples: list[Record]) -> None:
    odd = [{**examples[0], "latency": 20 + place / 10} for place in range(100)]
    enrolled = [model.enrol(f"c{i}", model.embed([each])) for i, each in enumerate(odd)]
    other = model.with_classes(enrolled)
    verdicts = other.classify(odd, distances=True)
    for place, verdict in enumerate(verdicts):
        assert verdict.distances is not None
        assert verdict.distance == min(verdict.distances.values())
        if verdict.label != f"c{place}":  # neighbours that the sigmoid draws together
            assert verdict.distances[f"c{place}"] < 1e-6
    assert [each.label for each in other.classify(examples)] == ["good", "congested", "down"]


def test_records_that_are_all_alike_accept_themselves(model: Model, examples: list[Record]) -> None:
    odd = {**examples[0], "latency": 50}
    other = model.with_classes([model.enrol("odd", model.embed([odd] * 120))])
    for count in (1, 7, 100):
        assert {verdict.label for verdict in other.classify([odd] * count)} == {"odd"}


def test_labels_are_those_of_the_verdicts(model: Model) -> None:
    decisions = model.decide(model.schema.encode(model.examples))
    decisions.accepted[0] = False
    labels = [verdict.label for verdict in model.verdicts(decisions, Verdict)]
    assert model.labels(decisions) == labels
    assert labels[0] == "unknown"


def test_a_class_that_the_bundle_carries_is_judged_as_if_it_were_enrolled(
    make_bundle: Callable[..., Bundle], bundle: Bundle, examples: list[Record]
) -> None:
    good, congested, down = (
        class_.model_copy(update={"share": share})
        for class_, share in zip(bundle.manifest.classes, (0.7, 0.3, None), strict=True)
    )
    calibration = bundle.manifest.calibration.model_copy(update={"scatter": 0.02})
    plain = Model(make_bundle(classes=[good, congested], calibration=calibration))
    points = plain.embed(examples[2:3])
    enrolled = plain.enrol("down", points)
    down = down.model_copy(
        update={
            "centroid": tuple(enrolled.centroid.tolist()),
            "radius": enrolled.radius,
            "records": 1,
            "enrolled": True,
        }
    )
    carried = Model(make_bundle(classes=[good, congested, down], calibration=calibration))
    beside = plain.with_classes([enrolled])
    other = plain.enrol("other", points[:1])
    for one, same in (
        (carried, beside),
        (carried.with_classes([]), beside),
        (carried.with_classes([other]), plain.with_classes([enrolled, other])),
    ):
        assert one.names == same.names
        for name in ("centroids", "radii", "support", "log_prior"):
            np.testing.assert_array_equal(getattr(one.rule, name), getattr(same.rule, name))
        assert one.classify(examples) == same.classify(examples)
    assert carried.with_classes([], without=["down"]).rule.support is None
    # It says nothing of the radius of others that are enrolled.
    wide = make_bundle(classes=[good, congested, down.model_copy(update={"radius": 1.0})])
    assert Model(wide).enrol("other", points).radius == enrolled.radius
