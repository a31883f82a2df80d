"""Archives: what is planned, scored, taken up again and refused; here, in one process."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow.parquet as pq
import pytest

from benchmarks.fuzz.toy import DOWN, GOOD, OVERLOAD
from models import Model
from models.engines import EngineError
from models.signature import TrustedKeys, new_key, sign
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.offline import archive
from service.offline.archive import classify_archive, is_archive, job_of, plan
from service.offline.archive_units import Job, Unit, score
from service.offline.batch import classify_table
from service.offline.tables import Table, TableError

U = TypeVar("U")
R = TypeVar("R")
RECORDS = [GOOD, DOWN, OVERLOAD]


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tables, of which one has row groups that make three units."""
    monkeypatch.setattr(archive, "_UNIT_ROWS", 4)
    table = pl.DataFrame(RECORDS * 4).with_columns(number=pl.int_range(12))
    folder = tmp_path / "in"
    (folder / "2026/11").mkdir(parents=True)
    table.write_parquet(folder / "2026/11/large.parquet", row_group_size=2)
    table.head(3).write_parquet(folder / "2026/small.parquet")
    table.head(3).write_csv(folder / "a.csv")
    (folder / "_hidden.csv").write_text("x\n1\n")
    (folder / "notes.txt").write_text("no table")
    return folder


class Recording:
    """An engine that scores here, and remembers what it was given."""

    def __init__(self) -> None:
        self.units: list[Any] = []

    def __call__(self, _: int, work: Callable[[U], R], units: Sequence[U], /) -> Iterator[R]:
        self.units += units
        return map(work, units)


def run(job: Job) -> list[str]:
    """Classify, and return the parts that were made."""
    engine = Recording()
    classify_archive(job, engine, 1)
    return [unit.part for unit in engine.units]


@pytest.fixture
def job(source: Path, bundle: Path, model: Model, tmp_path: Path) -> Job:
    return job_of(str(source), str(tmp_path / "out"), bundle, model, keep=["number"])


PARTS = [
    "2026/11/large-0000-0002.parquet",
    "2026/11/large-0002-0004.parquet",
    "2026/11/large-0004-0006.parquet",
    "2026/small.parquet",
    "a.csv.parquet",
]


def test_units_are_files_or_row_groups_and_name_their_parts(job: Job, model: Model) -> None:
    units = plan(job, model)
    assert [unit.part for unit in units] == PARTS
    assert [unit.groups for unit in units] == [(0, 2), (2, 4), (4, 6), None, None]


def test_the_parts_hold_what_each_table_alone_would_get(
    job: Job, model: Model, source: Path, tmp_path: Path
) -> None:
    assert run(job) == PARTS
    for name, parts in [("2026/11/large.parquet", PARTS[:3]), ("a.csv", PARTS[4:])]:
        alone = tmp_path / "alone.parquet"
        classify_table(model, Table(source / name, model.schema, ["number"]), alone)
        together = pl.concat([pl.read_parquet(tmp_path / "out" / part) for part in parts])
        assert together.equals(pl.read_parquet(alone))
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert (manifest["units"], manifest["rows"], manifest["faulty"]) == (5, 18, 0)
    assert manifest["labels"] == {"link-down": 6, "normal": 6, "overload": 6, "unknown": 0}
    assert manifest["version"] == model.manifest.version


def test_a_second_run_does_only_what_is_missing_damaged_or_changed(
    job: Job, source: Path, tmp_path: Path
) -> None:
    run(job)
    out = tmp_path / "out"
    before = {part: (out / part).read_bytes() for part in PARTS}
    assert run(job) == []
    (out / PARTS[0]).unlink()
    (out / PARTS[1]).write_bytes(before[PARTS[1]][:-9])
    (out / PARTS[3]).write_bytes(before[PARTS[2]])  # of another unit
    (source / "a.csv").touch()
    (out / f"2026/.{Path(PARTS[3]).name}-0123").write_bytes(b"half")
    assert run(job) == [PARTS[0], PARTS[1], PARTS[3], PARTS[4]]
    after = {part: (out / part).read_bytes() for part in PARTS}
    assert {part: after[part] for part in PARTS[:4]} == {part: before[part] for part in PARTS[:4]}
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == sorted(
        [*(Path(part).name for part in PARTS), "_job.json", "_manifest.json"]
    )


def test_parts_of_a_table_that_is_gone_go_too(job: Job, source: Path, tmp_path: Path) -> None:
    run(job)
    (source / "2026/small.parquet").unlink()
    assert run(job) == []
    assert not (tmp_path / "out" / PARTS[3]).exists()
    assert json.loads((tmp_path / "out/_manifest.json").read_text())["rows"] == 15


def test_another_archive_never_takes_the_place_of_the_one_before(
    job: Job,
    source: Path,
    tmp_path: Path,
    bundle: Path,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(job)
    made = sorted((tmp_path / "out").rglob("*.parquet"))
    other = shutil.copytree(source / "2026", tmp_path / "other")
    again = job_of(str(other), job.out, bundle, model, keep=["number"])
    with pytest.raises(
        TableError, match=r"holds verdicts of another job: source .*/in, not .*/other"
    ):
        run(again)
    assert sorted((tmp_path / "out").rglob("*.parquet")) == made
    monkeypatch.chdir(tmp_path)
    assert run(dataclasses.replace(job, source="in")) == []


def test_verdicts_in_the_folder_of_the_archive_are_no_part_of_it(
    source: Path, bundle: Path, model: Model
) -> None:
    for address in (source, source / "*"):
        job = job_of(str(address), str(source / "verdicts"), bundle, model, keep=["number"])
        before = run(job)
        (source / "verdicts" / "a.csv.parquet").unlink()
        assert run(job) == ["a.csv.parquet"]
        assert "a.csv.parquet" in before
        shutil.rmtree(source / "verdicts")


def test_a_pattern_chooses_tables(job: Job, source: Path, bundle: Path, model: Model) -> None:
    chosen = job_of(f"{source}/2026/*.parquet", job.out, bundle, model)
    assert [unit.part for unit in plan(chosen, model)] == ["11/large-0000-0002.parquet"] + [
        f"11/{Path(part).name}" for part in PARTS[1:3]
    ] + ["small.parquet"]
    assert is_archive(chosen.source)
    assert is_archive(str(source))
    assert not is_archive(str(source / "a.csv"))


def test_enrolled_classes_travel_with_the_job(
    source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    odd = GOOD | {"link up": False, "cpu load": 70.0}
    pl.DataFrame([odd, GOOD]).write_parquet(source / "odd.parquet")
    stored = StoredClass("fire", records=(SupportRecord(1, odd),))
    for snapshot, labels in [
        (None, ["unknown", "normal"]),
        (Snapshot(7, {"fire": stored}), ["fire", "normal"]),
    ]:
        out = str(tmp_path / labels[0])
        run(job_of(str(source / "odd*"), out, bundle, model, snapshot=snapshot))
        assert pq.read_table(Path(out) / "odd.parquet")["label"].to_pylist() == labels
    with pytest.raises(TableError, match="revision 7, not None"):
        run(job_of(str(source), str(tmp_path / "fire"), bundle, model))
    other = Snapshot(7, {"frost": StoredClass("frost", records=(SupportRecord(1, odd),))})
    with pytest.raises(TableError, match=r"classes [0-9a-f]{64}, not"):
        run(job_of(str(source), str(tmp_path / "fire"), bundle, model, snapshot=other))


def test_what_cannot_be_done_is_told_in_a_line(
    job: Job, source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    def refused(**changes: object) -> str:
        options = {"source": str(source), "out": str(tmp_path / "o"), **changes}
        with pytest.raises(TableError) as caught:
            run(job_of(bundle=bundle, model=model, **options))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "give --out" in refused(out=None)
    assert "holds no tables" in refused(source=str(tmp_path / "in/2026/1[3]"))
    assert "cannot be read" in refused(source=str(tmp_path / "nowhere"))
    assert "is no address" in refused(source="gopher://a/b")
    run(job)
    assert "of another job: distances False, not True" in refused(out=job.out, distances=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    assert "holds other files" in refused(out=str(tmp_path / "full"))
    assert (tmp_path / "full/mine.txt").exists()
    assert not (tmp_path / "o").exists()


def test_tables_of_other_columns_are_named(
    job: Job, source: Path, bundle: Path, model: Model
) -> None:
    table = pl.read_csv(source / "a.csv")
    optional = next(field.name for field in model.schema.fields if not field.required)
    table.drop(optional).write_csv(source / "b.csv")
    with pytest.raises(TableError, match=rf"b\.csv lacks the column '{optional}'"):
        run(job)
    table.with_columns(number=pl.lit("x")).write_parquet(source / "b.csv")
    (source / "b.csv").rename(source / "b.parquet")
    with pytest.raises(TableError, match=r"column 'number' is .*string.* in .*b\.parquet"):
        run(job_of(str(source / "*.parquet"), job.out, bundle, model, keep=["number"]))


def test_cells_of_text_are_copied_whatever_they_look_like(
    source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    shutil.rmtree(source / "2026")
    table = pl.read_csv(source / "a.csv")
    for name, cell in [("b", "x7"), ("c", None), ("d", "1.50")]:
        table.with_columns(number=pl.lit(cell, pl.String)).write_csv(source / f"{name}.csv")
    out = tmp_path / "out"
    run(job_of(str(source), str(out), bundle, model, keep=["number"]))
    kept = pl.read_parquet(out / "*.parquet")["number"].unique().to_list()
    assert sorted(kept, key=str) == ["0", "1", "1.50", "2", None, "x7"]


def test_two_tables_never_share_a_part(source: Path, job: Job) -> None:
    pl.read_csv(source / "a.csv").write_parquet(source / "a.csv.parquet")
    with pytest.raises(TableError, match=r"would have the same part a\.csv\.parquet: rename one"):
        run(job)


def test_a_folder_may_have_the_characters_of_a_pattern_in_its_name(
    source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    source.rename(tmp_path / "run[1]")
    made = run(job_of(str(tmp_path / "run[1]"), str(tmp_path / "out"), bundle, model))
    assert made == PARTS


def test_a_row_that_does_not_fit_is_named_and_what_was_done_stays(
    job: Job, source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    large = pl.read_parquet(source / "2026/11/large.parquet")
    name = "cpu load"
    large.with_columns(
        pl.when(pl.col("number") == 9).then(float("inf")).otherwise(pl.col(name)).alias(name)
    ).write_parquet(source / "2026/11/large.parquet", row_group_size=2)
    with pytest.raises(TableError, match=rf"large\.parquet: row 10 .* column '{name}'"):
        run(job)
    assert (tmp_path / "out" / PARTS[1]).exists()
    assert not (tmp_path / "out/_manifest.json").exists()
    reported = job_of(str(source), str(tmp_path / "r"), bundle, model, report=True)
    run(reported)
    assert json.loads((tmp_path / "r/_manifest.json").read_text())["faulty"] == 1


def test_a_worker_with_another_bundle_refuses(job: Job, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "copy")
    other = Job(job.source, job.out, str(tmp_path / "copy"), "0123456789abcdef")
    with pytest.raises(TableError, match="the job is of 0123456789abcdef"):
        score(other, Unit("a.csv", "a.csv.parquet", 0, 0))


def test_a_worker_refuses_a_bundle_that_the_keys_of_the_job_have_not_signed(
    source: Path, bundle: Path, model: Model, tmp_path: Path
) -> None:
    copy, trusted = tmp_path / "copy", TrustedKeys((new_key(tmp_path / "key"),))
    shutil.copytree(bundle, copy)
    out = str(tmp_path / "out")
    job = job_of(str(source), out, copy, model, trusted=trusted)
    with pytest.raises(TableError, match="it is not signed"):
        score(job, Unit("a.csv", "a.csv.parquet", 0, 0))
    sign(copy, tmp_path / "key")
    run(job)
    run(job_of(str(source), out, bundle, model))  # the same verdicts, whoever was trusted


def test_an_engine_that_gives_up_is_told_in_a_line_and_leaves_no_manifest(
    job: Job, tmp_path: Path
) -> None:
    def broken(_: int, work: Callable[[U], R], units: Sequence[U], /) -> Iterator[R]:
        yield work(units[0])
        raise EngineError("workers died 3 times")

    with pytest.raises(TableError, match=r"^workers died 3 times$"):
        classify_archive(job, broken, 1)
    assert (tmp_path / "out" / PARTS[0]).exists()
    assert not (tmp_path / "out/_manifest.json").exists()
