from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import FORMAT, MOST_FIELDS, Bundle, BundleError, Calibration, Class, Manifest
from models.names import UNKNOWN
from models.schema import Field

MakeBundle = Callable[..., Bundle]

ALL_FILES = ["card.md", "encoder.onnx", "examples.json", "figures/map.svg", "manifest.json"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def everything_in(path: Path) -> dict[str, bytes]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as an attacker would, without knowledge of the version."""
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and write the version that its new content must have."""

    def change_and_sign(document: dict[str, Any]) -> None:
        change(document)
        content = {k: v for k, v in document.items() if k not in ("version", "created")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        document["version"] = hashlib.sha256(text.encode()).hexdigest()[:16]

    edit(folder, change_and_sign)


def refusal(path: Path) -> str:
    """Why the bundle is refused; an assertion fails when it is not, or not in good form."""
    with pytest.raises(BundleError) as caught:
        Bundle.read(path)
    error = caught.value
    assert error.path == path
    assert error.reason
    assert str(error) == f"bundle {path} is refused: {error.reason}"
    return error.reason


def test_a_bundle_reads_back_as_it_was_written(bundle: Bundle, folder: Path) -> None:
    assert Bundle.read(folder) == bundle
    assert Bundle.read(str(folder)) == bundle
    assert sorted(everything_in(folder)) == ALL_FILES


@settings(deadline=None)
@given(
    training=st.dictionaries(st.text(max_size=5), JSON),
    metrics=st.dictionaries(st.text(max_size=5), JSON),
)
def test_any_recipe_and_metrics_read_back_as_they_were_written(
    make_bundle: MakeBundle, training: dict[str, Any], metrics: dict[str, Any]
) -> None:
    written = make_bundle(training=training, metrics=metrics)
    with tempfile.TemporaryDirectory() as place:
        written.write(Path(place) / "small")
        assert Bundle.read(Path(place) / "small") == written


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["training", "metrics"])
def test_a_recipe_or_metric_that_json_cannot_hold_is_refused_or_reads_back(
    make_bundle: MakeBundle, tmp_path: Path, part: str, number: float
) -> None:
    try:
        written = make_bundle(**{part: {"loss": {"excess": [number]}}})
    except pydantic.ValidationError:
        return
    written.write(tmp_path / "small")
    assert Bundle.read(tmp_path / "small").manifest.version == written.manifest.version


def test_the_version_is_reproducible_and_independent_of_the_date(make_bundle: MakeBundle) -> None:
    first = make_bundle(created=datetime(2026, 1, 1, tzinfo=UTC)).manifest
    later = make_bundle(created=datetime(2027, 1, 1, tzinfo=UTC)).manifest
    assert first.version == later.version == later.content_hash()
    assert len(first.version) == 16
    assert int(first.version, 16) >= 0


def test_the_version_is_independent_of_the_order_of_files_and_keys(
    bundle: Bundle, make_bundle: MakeBundle
) -> None:
    turned = {name: bundle.files[name] for name in reversed(list(bundle.files))}
    metrics = dict(reversed(bundle.manifest.metrics.items()))
    again = Bundle.make(
        turned, **(make_bundle(metrics=metrics).manifest.model_dump(exclude={"version", "files"}))
    )
    assert again.manifest.version == bundle.manifest.version


@pytest.mark.parametrize(
    "content",
    [
        {"name": "other"},
        {"metrics": {}},
        {"training": {"loss": "facenet"}},
        {"calibration": {"unknown_rate": 0.02, "temperature": 0.05, "records": {"good": 100}}},
        {"files": {"card.md": b"# another card"}},
        {"files": {"figures/new.svg": b"<svg/>"}},
    ],
)
def test_another_content_is_another_version(
    bundle: Bundle, make_bundle: MakeBundle, content: dict[str, Any]
) -> None:
    assert make_bundle(**content).manifest.version != bundle.manifest.version


@pytest.mark.parametrize("there", ["a folder", "a file", "a bundle", "a dangling link"])
def test_what_is_there_already_is_never_overwritten(
    bundle: Bundle, tmp_path: Path, there: str
) -> None:
    target = tmp_path / "small"
    match there:
        case "a folder":
            target.mkdir()
        case "a file":
            target.write_bytes(b"mine")
        case "a bundle":
            bundle.write(target)
        case "a dangling link":
            target.symlink_to(tmp_path / "nowhere")
    before = everything_in(tmp_path), names_in(tmp_path)
    with pytest.raises(FileExistsError):
        bundle.write(target)
    assert (everything_in(tmp_path), names_in(tmp_path)) == before


@pytest.mark.parametrize("survived", range(len(ALL_FILES)))
def test_a_full_disk_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    opened = io.open
    files = 0

    def full(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        nonlocal files
        if "w" in mode or "x" in mode:
            files += 1
            if files > survived:
                raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(io, "open", full)
    with pytest.raises(OSError, match="No space left"):
        bundle.write(tmp_path / "small")
    monkeypatch.undo()
    assert files == survived + 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("fault", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
def test_a_write_that_fails_at_its_last_step_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    for step in ("rename", "replace"):
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(fault)):
        bundle.write(tmp_path / "small")
    assert names_in(tmp_path) == []


def test_a_written_bundle_can_be_read_by_others_than_its_writer(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o755
    assert names_in(folder.parent) == ["small"]


def test_parent_folders_are_made(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write(tmp_path / "models" / "new" / "small")
    assert Bundle.read(tmp_path / "models" / "new" / "small") == bundle


def test_the_manifest_is_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    program = """
import sys, warnings
from datetime import datetime, UTC
from models.bundle import Bundle
warnings.simplefilter("error", EncodingWarning)
one = {"good": True, "severity": "none", "centroid": [0.5], "radius": 0.1, "records": 1}
two = {**one, "name": "heiß", "good": False}
Bundle.make(
    {"encoder.onnx": b"", "examples.json": b""}, name="m", created=datetime(2026, 1, 1, tzinfo=UTC),
    dimensions=1, fields=[{"name": "t", "kind": "gauge", "unit": "°C"}],
    classes=[{**one, "name": "good"}, two], training={}, metrics={},
    calibration={"unknown_rate": 0.01, "temperature": 1, "records": {}},
).write(sys.argv[1])
"""
    command = [sys.executable, "-X", "warn_default_encoding", "-c", program, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Bundle.read(tmp_path / "m").manifest.fields[0].unit == "°C"


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from([name for name in ALL_FILES if name != "manifest.json"]),
    place=st.integers(0, 2**16),
    change=st.integers(1, 255),
)
def test_a_changed_byte_of_any_file_is_refused(
    bundle: Bundle, name: str, place: int, change: int
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "small"
        bundle.write(folder)
        data = bytearray((folder / name).read_bytes())
        data[place % len(data)] ^= change
        (folder / name).write_bytes(data)
        assert refusal(folder).startswith(f"{name} was altered or cut off")


@settings(deadline=None, max_examples=500)
@given(place=st.integers(0, 2**16), change=st.integers(1, 255))
def test_a_changed_byte_of_the_manifest_is_refused_or_changes_nothing_but_the_date(
    bundle: Bundle, place: int, change: int
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "small"
        bundle.write(folder)
        data = bytearray((folder / "manifest.json").read_bytes())
        data[place % len(data)] ^= change
        (folder / "manifest.json").write_bytes(data)
        try:
            read = Bundle.read(folder)
        except BundleError:
            refusal(folder)
            return
        same = read.manifest.model_copy(update={"created": bundle.manifest.created})
        assert same == bundle.manifest
        assert read.files == bundle.files


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(ALL_FILES), keep=st.integers(0, 2**16))
def test_a_file_that_is_cut_off_is_refused(bundle: Bundle, name: str, keep: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "small"
        bundle.write(folder)
        data = (folder / name).read_bytes().rstrip(b"\n")
        (folder / name).write_bytes(data[: keep % len(data)])
        assert name in refusal(folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_file_that_is_missing_is_refused_by_its_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder).startswith(f"{name} cannot be read (No such file or directory)")


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refusal(folder).startswith(f"{name} cannot be read (Is a directory)")


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(
    folder: Path, name: str
) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder).startswith(f"{name} cannot be read (it is no regular file)")


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_file_of_a_terabyte_is_refused_and_not_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, 1 << 40)
    assert refusal(folder).startswith(f"{name} cannot be read (it has 1099511627776 bytes, where ")


def test_the_files_of_a_bundle_are_bounded_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = sum(len(everything_in(folder)[name]) for name in ALL_FILES[:-1])
    monkeypatch.setattr("models.bundle.MOST_BYTES", together)
    Bundle.read(folder)
    monkeypatch.setattr("models.bundle.MOST_BYTES", together - 1)
    assert "bytes, where" in refusal(folder)


@pytest.mark.parametrize("bound", ["MOST_BYTES", "MOST_MANIFEST_BYTES"])
def test_what_is_too_large_to_be_read_is_not_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"models.bundle.{bound}", 100)
    with pytest.raises(BundleError, match="it has more than"):
        bundle.write(tmp_path / "small")
    assert names_in(tmp_path) == []


def test_a_manifest_of_too_many_fields_is_refused(folder: Path) -> None:
    def widen(document: dict[str, Any]) -> None:
        field = document["fields"][0]
        document["fields"] = [field | {"name": f"field {i}"} for i in range(MOST_FIELDS + 1)]

    edit(folder, widen)
    assert "fields: Tuple should have at most 4096 items" in refusal(folder)


@pytest.mark.parametrize(
    ("piece", "place"),
    [
        ({"fields": [{}] * 100_000}, "fields.0.name"),
        ({"classes": [{}] * 100_000}, "classes.0.name"),
        ({"fields": [{"categories": [1] * 100_000}]}, "fields.0.name"),
        ({"classes": [{"centroid": ["x"] * 100_000}]}, "classes.0.name"),
    ],
)
def test_mistakes_beyond_the_first_of_a_list_take_no_memory(
    folder: Path, piece: dict[str, Any], place: str
) -> None:
    edit(folder, lambda document: document.update(piece))
    with pytest.raises(BundleError, match=place) as caught:
        Bundle.read(folder)
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)
    assert caught.value.__cause__.error_count() < 20


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "is this a bundle's folder?" in refusal(tmp_path)
    assert "is this a bundle's folder?" in refusal(tmp_path / "nowhere")
    assert "Not a directory" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", ["encoder.onnx", "examples.json"])
def test_a_bundle_needs_an_encoder_and_examples(folder: Path, name: str) -> None:
    forge(folder, lambda document: document["files"].pop(name))
    assert f"lists no {name}" in refusal(folder)


@pytest.mark.parametrize("name", ["encoder.onnx", "examples.json"])
def test_a_bundle_that_could_not_be_read_is_not_made(bundle: Bundle, name: str) -> None:
    files = {key: data for key, data in bundle.files.items() if key != name}
    content = bundle.manifest.model_dump(exclude={"version", "files"})
    with pytest.raises(ValueError, match=name):
        Bundle.make(files, **content)


def test_a_link_to_the_bundle_and_to_its_files_reads_as_what_it_leads_to(
    bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "current").symlink_to(folder)
    (folder / "card.md").rename(tmp_path / "card")
    (folder / "card.md").symlink_to(tmp_path / "card")
    assert Bundle.read(tmp_path / "current") == bundle
    (tmp_path / "card").write_bytes(b"another card")
    assert refusal(tmp_path / "current").startswith("card.md was altered")


BAD_NAMES = [
    *("../x", "/etc/passwd", "..", ".", "", "a/../../x", "figures/../../x", "a/b/c", "a//b", "/"),
    "x" * 101,
    *("./x", ".hidden", "figures/", "figures/.x", "a\\b", "..\\x", "C:x", "a b", "a\n", "a\x00b"),
]


@pytest.mark.parametrize("name", [*BAD_NAMES, "manifest.json"])
def test_a_file_name_that_leads_elsewhere_is_refused_before_it_is_read_or_written(
    folder: Path, make_bundle: MakeBundle, name: str
) -> None:
    with pytest.raises(pydantic.ValidationError):
        make_bundle({name: b"x"})
    digest = hashlib.sha256(b"").hexdigest()
    forge(folder, lambda document: document["files"].update({name: digest}))
    assert "file name not allowed" in refusal(folder)


@pytest.mark.parametrize("number", [0, 2, 17, -1, "1", None, [], True, 1.5, "x" * 10])
def test_an_unknown_format_is_refused_by_its_number(folder: Path, number: object) -> None:
    forge(folder, lambda document: document.update(format=number))
    reason = refusal(folder)
    if number is not True:  # True == 1 in Python; only the refusal counts
        assert reason == f"its format is {number!r}; this version reads format {FORMAT}"


@pytest.mark.parametrize("document", ["[]", "null", "1", '"x"', "{}", '{"format": null}'])
def test_json_that_is_no_manifest_is_refused(folder: Path, document: str) -> None:
    (folder / "manifest.json").write_text(document, encoding="utf-8")
    assert refusal(folder) == "its format is None; this version reads format 1"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"\x00", b'{"format": 1', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_manifest_that_is_no_json_is_refused(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    assert "manifest.json" in refusal(folder)


def set_class(index: int, **change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["classes"][index].update(change)


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a radius": set_class(1, radius=0.5),
    "a centroid": set_class(1, centroid=[0.5, 0.5, 0.5]),
    "a severity": set_class(1, severity="none"),
    "a label": set_class(1, name="fine"),
    "a number of records": set_class(1, records=1),
    "a temperature": lambda document: document["calibration"].update(temperature=9.0),
    "a threshold": lambda document: document["calibration"].update(unknown_rate=0.5),
    "a metric": lambda document: document["metrics"].update(balanced_accuracy=1.0),
    "a recipe": lambda document: document["training"].update(gain=1),
    "the name": lambda document: document.update(name="other"),
    "a unit": lambda document: document["fields"][0].update(unit="s"),
    "a field that may be missing": lambda document: document["fields"][0].update(required=False),
    "the order of the fields": lambda document: document["fields"].reverse(),
    "the order of the classes": lambda document: document["classes"].reverse(),
    "a file less": lambda document: document["files"].pop("card.md"),
    "the version": lambda document: document.update(version="0" * 16),
    "an empty version": lambda document: document.update(version=""),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_manifest_is_refused(folder: Path, what: str) -> None:
    edit(folder, EDITS[what])
    assert refusal(folder) == "manifest.json was altered: its content is not its version's"


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "NaN in a centroid": (set_class(0, centroid=[float("nan"), 0.5, 0.5]), "classes.0.centroid.0"),
    "infinity in a centroid": (set_class(0, centroid=[0.5, float("inf"), 0]), "centroid.1"),
    "a centroid outside the cube": (set_class(0, centroid=[0.5, 1.5, 0]), "classes.0.centroid.1"),
    "a short centroid": (set_class(2, centroid=[0.5, 0.5]), "centroid's length"),
    "a long centroid": (set_class(2, centroid=[0.5] * 4), "centroid's length"),
    "null in a centroid": (set_class(0, centroid=[None, 0.5, 0.5]), "classes.0.centroid.0"),
    "another number of dimensions": (lambda d: d.update(dimensions=4), "centroid's length"),
    "no dimensions": (lambda d: d.update(dimensions=0), "dimensions"),
    "NaN for a radius": (set_class(0, radius=float("nan")), "classes.0.radius"),
    "a negative radius": (set_class(0, radius=-0.1), "classes.0.radius"),
    "a radius beyond the cube": (set_class(0, radius=1.1), "classes.0.radius"),
    "a class named unknown": (set_class(1, name=UNKNOWN), "cannot be told from 'unknown'"),
    "a class without a name": (set_class(1, name=""), "classes.1.name"),
    "two classes of one name": (set_class(1, name="down"), "cannot be told from 'down'"),
    "two names that differ in case": (set_class(1, name="Down"), "cannot be told from 'Down'"),
    "a name with a slash": (set_class(1, name="a/b"), "without slashes"),
    "two good classes": (set_class(1, good=True), "exactly one class must be good"),
    "no good class": (set_class(0, good=False), "exactly one class must be good"),
    "one class": (lambda d: d.update(classes=d["classes"][:1]), "classes"),
    "no records": (set_class(0, records=0), "classes.0.records"),
    "an invented severity": (set_class(0, severity="awful"), "classes.0.severity"),
    "an echo of nothing": (set_class(1, echo_of="flood"), "cannot be the echo of 'flood'"),
    "an unknown key": (set_class(0, colour="red"), "classes.0.colour"),
    "an unknown key at the top": (lambda d: d.update(pickle="x"), "pickle"),
    "a temperature of 0": (lambda d: d["calibration"].update(temperature=0), "temperature"),
    "a temperature of NaN": (
        lambda d: d["calibration"].update(temperature=float("nan")),
        "temperature",
    ),
    "an unknown rate of 1": (lambda d: d["calibration"].update(unknown_rate=1), "unknown_rate"),
    "no fields": (lambda d: d.update(fields=[]), "fields"),
    "two fields of one name": (lambda d: d["fields"].append(d["fields"][0]), "share a name"),
    "a category field without categories": (
        lambda d: d["fields"][3].update(categories=[]),
        "fields.3",
    ),
    "a name that leads elsewhere": (lambda d: d.update(name="../other"), "name"),
    "a name that is the folder above": (lambda d: d.update(name=".."), "name"),
    "no date": (lambda d: d.update(created=None), "created"),
    "no classes": (lambda d: d.pop("classes"), "classes"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_manifest_that_makes_no_sense_is_refused_even_with_the_right_version(
    folder: Path, what: str
) -> None:
    change, reason = FORGERIES[what]
    forge(folder, change)
    assert reason in refusal(folder)


def test_the_forger_of_these_tests_knows_the_version(folder: Path) -> None:
    forge(folder, set_class(1, radius=0.5))
    assert Bundle.read(folder).manifest.classes[1].radius == 0.5


def test_a_manifest_of_nonsense_is_not_made(make_bundle: MakeBundle) -> None:
    with pytest.raises(pydantic.ValidationError, match="exactly one class must be good"):
        make_bundle(classes=[c.model_copy(update={"good": True}) for c in classes_of(make_bundle)])


def classes_of(make_bundle: MakeBundle) -> tuple[Class, ...]:
    return make_bundle().manifest.classes


@pytest.mark.parametrize("typical", [True, False, 1, 0, 1.0, 0.1, "1", "true", "", None])
def test_a_typical_value_keeps_its_kind(
    make_bundle: MakeBundle, tmp_path: Path, typical: float | str | None
) -> None:
    of_text = {"kind": "category", "categories": ("1",)} if isinstance(typical, str) else {}
    field = Field.model_validate({"name": "x", "kind": "gauge", "typical": typical} | of_text)
    make_bundle(fields=[field]).write(tmp_path / "m")
    read = Bundle.read(tmp_path / "m").manifest.fields[0].typical
    assert read == typical
    assert isinstance(read, bool) == isinstance(typical, bool)


def test_a_typical_value_of_a_number_is_no_text() -> None:
    with pytest.raises(pydantic.ValidationError, match="its typical value is text, and no number"):
        Field(name="x", kind="gauge", typical="n/a", spread=1.0)


@pytest.mark.parametrize("part", [Manifest, Class, Calibration])
def test_a_manifest_cannot_be_changed(bundle: Bundle, part: type[pydantic.BaseModel]) -> None:
    whole = bundle.manifest
    [model] = [m for m in (whole, whole.classes[0], whole.calibration) if isinstance(m, part)]
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(model, next(iter(part.model_fields)), None)


def test_what_older_bundles_do_not_know_is_no_part_of_their_content(folder: Path) -> None:
    def add_spread(document: dict[str, Any]) -> None:
        document["fields"][0] |= {"spread": 2.5, "relative": True}

    older = json.loads((folder / "manifest.json").read_bytes())
    known = {"name", "kind", "unit", "required", "categories", "open", "typical"}
    assert all(field.keys() == known for field in older["fields"])
    forge(folder, add_spread)
    newer = Bundle.read(folder).manifest
    assert (newer.fields[0].spread, newer.fields[0].relative) == (2.5, True)
    assert newer.version != older["version"]
    assert newer.fields[1] == Field.model_validate(older["fields"][1])


def test_the_bundle_that_ships_is_read_with_the_version_it_was_written_with() -> None:
    folder = Path(__file__).parents[2] / "models" / "iosxr"
    document = json.loads((folder / "manifest.json").read_bytes())
    for field in document["fields"]:  # as before fields had these keys
        field.pop("spread", None), field.pop("relative", None)
    older = Manifest.model_validate(document)
    content = {key: document[key] for key in document if key not in {"version", "created"}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert older.content_hash() == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert Bundle.read(folder).manifest.version == document["version"]


def test_a_class_that_is_fitted_is_written_as_it_always_was(bundle: Bundle) -> None:
    fitted = bundle.manifest.classes[1]
    assert fitted.support == math.inf
    assert "enrolled" not in fitted.model_dump()
    carried = fitted.model_copy(update={"enrolled": True, "records": 3})
    assert carried.support == 3
    assert Class.model_validate_json(carried.model_dump_json()) == carried


def test_a_file_that_is_the_folder_of_another_is_refused(folder: Path) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    forge(folder, lambda document: document["files"].update({"x": digest, "x/y": digest}))
    assert "file name not allowed: 'x'" in refusal(folder)
