"""The commands, called as `faultcube` calls them."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models import cli as door
from models.model import Model
from training.dataset.dataset import load_dataset
from training.recipe import Recipe

QUICK = """
[encoder]
dimensions = 4
members = 1
linear = false
gain = 4
hidden = [16]
dropout = 0.0

[fit]
epochs = 3
steps = 6
batch = 48
learning_rate = 0.02
"""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Faultcube = Callable[..., Said]


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_table: Callable[..., pl.DataFrame]
) -> Path:
    """Where the command runs: a good table, and some that are not."""
    table = make_table()
    table.write_csv(tmp_path / "t.csv")
    table.filter(pl.col("label") == "good").write_csv(tmp_path / "one-class.csv")
    table.with_columns(gone=pl.lit(None, pl.String), void=pl.lit(None, pl.String)).write_csv(
        tmp_path / "all-missing.csv"
    )
    (tmp_path / "junk.csv").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "junk.parquet").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "quick.toml").write_text(QUICK)
    (tmp_path / "broken.toml").write_text("[[")
    (tmp_path / "wrong.toml").write_text("table = 3\n")
    (tmp_path / "strange.toml").write_text("colour = 'red'\n")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def faultcube(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Faultcube:
    """Runs a command in that folder."""
    del folder

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["faultcube", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            door.main()
        said = capfd.readouterr()
        code = end.value.code
        return Said(code if isinstance(code, int) else 1 if code else 0, said.out, said.err)

    return run


TABLE = "t.csv --label label --good good"
GIVEN = f"{TABLE} --split-column part"
QUICKLY = ("--recipe", "quick.toml", "--name", "x", "--epochs", "1")
REST = "--label label --good good --split-column part"

BAD: dict[str, tuple[str, str]] = {
    "nothing": ("", "give the table's path"),
    "no label": ("t.csv --good good --split-column part", "--label COLUMN"),
    "no good": ("t.csv --label label --split-column part", "--good VALUE"),
    "no split": (TABLE, "--split-column, --split-time, --split-group, --split-random"),
    "no label column": (
        "t.csv --label kind --good good --split-column part",
        "no label column 'kind'",
    ),
    "no good label": ("t.csv --label label --good fine --split-column part", "good label 'fine'"),
    "no split column": (f"{TABLE} --split-column fold", "no split column 'fold'"),
    "no column to ignore": (f"{GIVEN} --ignore colour", "no column 'colour'"),
    "one class": (f"one-class.csv {REST}", "a second class is needed"),
    "all missing": (f"all-missing.csv {REST} --keep gone", "no training row has a value of 'gone'"),
    "junk": (f"junk.csv {REST}", "junk.csv cannot be read"),
    "junk parquet": (f"junk.parquet {REST}", "junk.parquet cannot be read"),
    "empty": (f"empty.csv {REST}", "empty.csv cannot be read"),
    "a folder": (f"there {REST}", "there"),
    "missing": (f"none.csv {REST}", "there is no table none.csv"),
    "small beta": (f"{GIVEN} --dimensions 8 --beta 7", "beta = 7 is less than N = 8"),
    "out exists": (f"{GIVEN} --out there", "there exists"),
    "two splits": (f"{TABLE} --split-random --split-time time", "one way to split"),
    "three splits": (f"{GIVEN} --split-random --split-group device", "one way to split"),
    "shares in words": (f"{TABLE} --split-random --shares a,b,c", "0.6,0.15,0.25"),
    "two shares": (f"{TABLE} --split-random --shares 0.5,0.5", "shares"),
    "shares over one": (f"{TABLE} --split-random --shares 0.5,0.4,0.4", "shares must add up to 1"),
    "shares without a split": (f"{TABLE} --shares 0.6,0.2,0.2", "--split"),
    "no dev": (f"{TABLE} --split-random --shares 0.999,0.0005,0.0005", "leaves no dev rows"),
    "broken recipe": (f"{GIVEN} --recipe broken.toml", "broken.toml cannot be read"),
    "wrong recipe": (f"{REST} --recipe wrong.toml --name x", "table"),
    "strange recipe": (f"{GIVEN} --recipe strange.toml --name x", "colour"),
    "missing recipe": (f"{GIVEN} --recipe none.toml --name x", "there is no file none.toml"),
    "no name": (f"{GIVEN} --recipe quick.toml", "--name"),
    "bad name": (f"{GIVEN} --name a/b", "name"),
    "few rows": (f"{GIVEN} --rows 5", "rows: Input should be greater than or equal to 100"),
    "rate of one": (f"{GIVEN} --unknown-rate 1", "unknown_rate"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_one_line_with_code_2_and_nothing_is_written(
    faultcube: Faultcube, folder: Path, case: str
) -> None:
    arguments, words = BAD[case]
    before = sorted(folder.rglob("*"))
    out = [] if "--out" in arguments else ["--out", "new"]
    said = faultcube("train", *arguments.split(), *out)
    assert said.code == 2, said
    assert words in said.err
    assert re.fullmatch(r"faultcube: [^\n]+\n", said.err)
    assert said.out == ""
    assert sorted(folder.rglob("*")) == before


def test_a_device_that_is_not_there_is_told_before_anything_is_read(
    faultcube: Faultcube, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = sorted(folder.rglob("*"))
    said = faultcube("train", *GIVEN.split(), "--device", "cuda", "--out", "new")
    assert said.code == 2
    assert re.fullmatch(r"faultcube: there is no CUDA device here[^\n]+\n", said.err)
    assert said.out == ""
    assert sorted(folder.rglob("*")) == before


def test_a_fit_that_fails_halfway_leaves_nothing_behind(
    faultcube: Faultcube, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fitting.fit._COLLAPSED", 2.0)
    before = sorted(folder.rglob("*"))
    said = faultcube("train", *GIVEN.split(), *QUICKLY, "--out", "deep/new")
    assert said.code == 2
    assert said.err.startswith("faultcube: the encoder collapsed")
    assert said.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_an_export_that_differs_is_an_error_of_ours_and_leaves_nothing_behind(
    faultcube: Faultcube, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.onnx.export.PARITY", -1.0)
    before = sorted(folder.rglob("*"))
    said = faultcube("train", *GIVEN.split(), *QUICKLY, "--out", "new")
    assert said.code == 1
    assert said.err.startswith("faultcube: onnxruntime and torch differ")
    assert said.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_told_before_the_fit(
    faultcube: Faultcube, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[object] = []
    monkeypatch.setattr("training.fitting.estimator.fit", lambda *_: fitted.append(1))
    said = faultcube("train", *GIVEN.split(), "--out", "t.csv/new")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert not fitted


def test_training_writes_a_bundle_that_loads_and_says_what_it_is_worth(
    faultcube: Faultcube, folder: Path
) -> None:
    said = faultcube(
        "train", *GIVEN.split(), "--recipe", "quick.toml", "--name", "small", "--ignore", "time"
    )
    assert said.code == 0, said.err
    assert said.err == ""
    model = Model.load(folder / "models/small")
    assert model.manifest.dimensions == 4
    assert model.manifest.version in said.out
    test = model.manifest.metrics["test"]
    for how, key in (("nearest class", "nearest"), ("as served", "served")):
        found = re.search(rf"{how} +(\S+) +(\S+) +(\S+)", said.out)
        assert found
        expected = [test[key][name] for name in ("accuracy", "balanced_accuracy", "macro_f1")]
        assert [float(n) for n in found.groups()] == pytest.approx(expected, abs=6e-4)
    assert "4 fields, 3 classes, rows: 120 train, 60 dev, 60 test" in said.out
    assert "models/small/card.md" in said.out
    assert "device" in said.out
    assert sorted(p.name for p in (folder / "models").iterdir()) == ["small"]


def test_options_win_over_the_recipe_file_and_a_random_split_is_warned_of(
    faultcube: Faultcube, folder: Path
) -> None:
    said = faultcube(
        *[
            "train",
            "t.csv",
            "--recipe",
            "quick.toml",
            "--name",
            "x",
            "--label",
            "label",
            "--good",
            "good",
            "--out",
            "b",
        ],
        *[
            "--split-random",
            "--shares",
            "0.5,0.25,0.25",
            "--dimensions",
            "3",
            "--epochs",
            "1",
            "--seed",
            "5",
        ],
        *["--beta", "3.5", "--unknown-rate", "0.1", "--keep", "time", "--drop-label", "lossy"],
        *["--jobs", "2"],
    )
    assert said.code == 0, said.err
    assert re.fullmatch(r"warning: rows were split at random[^\n]+\n", said.err)
    manifest = Model.load(folder / "b").manifest
    recipe = manifest.training["recipe"]
    assert manifest.dimensions == 3
    assert (recipe["fit"]["seed"], recipe["fit"]["beta"], recipe["fit"]["epochs"]) == (5, 3.5, 1)
    assert recipe["fit"]["steps"] == 6
    assert "jobs" not in recipe["fit"]  # the result does not depend on it
    assert recipe["split"]["by"] == "random"
    assert manifest.training["rows"] == {"train": 80, "dev": 40, "test": 40}
    assert "time" in {field.name for field in manifest.fields}
    assert manifest.calibration.unknown_rate == 0.1


@pytest.mark.parametrize(
    "command", ["train t.csv", "retrain --recipe quick.toml --running there --out new"]
)
def test_how_many_fits_run_side_by_side_and_where_is_passed_on(
    faultcube: Faultcube, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen: list[Any] = []

    def run(_: Path | None, options: dict[str, Any], *__: object) -> int:
        seen.append(options["fit"])
        return 0

    monkeypatch.setattr("training.console.train_and_write", run)
    monkeypatch.setattr("training.console.retrain_and_write", run)
    assert faultcube(*command.split(), "--jobs", "3", "--engine", "ray").code == 0
    assert seen == [{"jobs": 3, "engine": "ray"}]


@pytest.mark.parametrize(
    "option", [["--shares", "0.5,0.25,0.25"], ["--split-within", "device"]], ids=lambda o: o[0]
)
def test_an_option_of_a_split_that_the_recipe_gives_is_not_silently_dropped(
    faultcube: Faultcube, folder: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    (folder / "timed.toml").write_text(
        "table='t.csv'\nlabel='label'\ngood='good'\nname='x'\n[split]\nby='time'\ncolumn='time'\n"
    )
    seen: list[Recipe] = []

    def stop(recipe: Recipe, *_: object) -> None:
        seen.append(recipe)
        raise OSError("stop")

    monkeypatch.setattr("training.console.train_bundle", stop)
    said = faultcube("train", "--recipe", "timed.toml", *option)
    taken = bool(seen) and (
        seen[0].split.shares == (0.5, 0.25, 0.25) or seen[0].split.within == "device"
    )
    assert said.code == 2
    assert taken or option[0] in said.err


@pytest.mark.parametrize(
    "option",
    [["--split-within", "device"], ["--split-table", "t.csv"]],
    ids=["within", "table"],
)
def test_an_option_that_the_way_to_split_has_no_use_for_is_refused(
    faultcube: Faultcube, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    def stop(*_: object) -> None:
        raise OSError("it was taken")

    monkeypatch.setattr("training.console.train_bundle", stop)
    said = faultcube("train", *TABLE.split(), "--split-group", "device", *option)
    assert said.code == 2
    assert "it was taken" not in said.err


def test_schema_prints_a_part_of_a_recipe_that_is_taken_back(
    faultcube: Faultcube, folder: Path
) -> None:
    said = faultcube("schema", *TABLE.split(), "--ignore", "part")
    assert said.code == 0, said.err
    assert said.err == ""
    fields = tomllib.loads(said.out)["fields"]
    assert fields["drops_rate"] == {"kind": "rate", "unit": "drops/s", "required": False}
    assert fields["latency_ms"] == {"kind": "gauge", "unit": "ms", "required": True}
    assert fields["up"]["kind"] == "boolean"
    assert fields["vendor"]["kind"] == "category"
    assert re.search(r'^# no field: "?device"? \(an identifier', said.out, re.MULTILINE)

    (folder / "whole.toml").write_text(
        "table='t.csv'\nlabel='label'\ngood='good'\nname='x'\n"
        "split={by='column', column='part'}\n" + said.out
    )
    recipe = Recipe.read(folder / "whole.toml", {})
    schema = load_dataset(recipe).schema
    assert {f.name: (f.kind, f.unit, f.required) for f in schema.fields} == {
        name: (each["kind"], each["unit"], each["required"]) for name, each in fields.items()
    }


def test_schema_has_the_unit_that_stands_in_the_cells(
    faultcube: Faultcube, folder: Path, make_table: Callable[..., pl.DataFrame]
) -> None:
    make_table(size=[f"{i % 13} kB" for i in range(240)]).write_csv(folder / "sizes.csv")
    said = faultcube("schema", "sizes.csv", "--label", "label", "--good", "good")
    assert tomllib.loads(said.out)["fields"]["size"]["unit"] == "kB"


NAMES = ["a.b", "say 'hi'", "sla/sh", "ünïcode", "emoji 😀", "[x]", "#"]


def test_schema_is_toml_whatever_the_columns_are_called(
    faultcube: Faultcube, folder: Path, make_table: Callable[..., pl.DataFrame]
) -> None:
    columns = {
        name: [float((i * (n + 2)) % 19) for i in range(240)] for n, name in enumerate(NAMES)
    }
    flat = {"flat line": [1] * 240}
    make_table(**columns, **flat).write_parquet(folder / "odd.parquet")
    said = faultcube("schema", "odd.parquet", "--label", "label", "--good", "good")
    assert said.code == 0, said.err
    assert set(NAMES) <= set(tomllib.loads(said.out)["fields"])


def test_schema_takes_a_recipe_and_leaves_out_the_column_it_splits_by(
    faultcube: Faultcube, folder: Path
) -> None:
    (folder / "whole.toml").write_text(
        "table='t.csv'\nlabel='label'\ngood='good'\nname='x'\n"
        "split={by='column', column='part'}\n[fields.latency_ms]\nunit='us'\n"
    )
    said = faultcube("schema", "--recipe", "whole.toml")
    assert said.code == 0, said.err
    fields = tomllib.loads(said.out)["fields"]
    assert fields["latency_ms"]["unit"] == "us"
    assert "part" not in fields


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "give the table's path"),
        ("t.csv --good good", "--label COLUMN"),
        ("none.csv --label label --good good", "there is no table none.csv"),
        ("t.csv --label kind --good good", "no label column 'kind'"),
        ("all-missing.csv --label label --good good --keep gone", "--ignore 'gone'"),
        ("--recipe broken.toml", "broken.toml cannot be read"),
        ("--recipe none.toml", "there is no file none.toml"),
    ],
)
def test_schema_answers_bad_input_in_one_line_with_code_2(
    faultcube: Faultcube, arguments: str, words: str
) -> None:
    said = faultcube("schema", *arguments.split())
    assert said.code == 2
    assert words in said.err
    assert re.fullmatch(r"faultcube: [^\n]+\n", said.err)
    assert said.out == ""


def test_schema_names_a_good_label_that_is_not_there(faultcube: Faultcube) -> None:
    said = faultcube("schema", "t.csv", "--label", "label", "--good", "fine")
    assert said.code == 2
    assert "'fine'" in said.err


def test_check_shows_every_column_and_class_and_writes_nothing(
    faultcube: Faultcube, folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    said = faultcube("check", *GIVEN.split())
    assert (said.code, said.err) == (0, "")
    assert "t.csv: 240 rows, 4 fields of 8 columns" in said.out
    assert re.search(r"^good \(good\) +40 +20 +20$", said.out, re.MULTILINE)
    assert re.search(r"^latency_ms +gauge, ms +0%", said.out, re.MULTILINE)
    assert re.search(r"^device +- +0% +an identifier", said.out, re.MULTILINE)
    assert said.out.endswith("nothing stops training\n")
    assert sorted(folder.rglob("*")) == before


def test_check_works_without_options(faultcube: Faultcube) -> None:
    said = faultcube("check", "t.csv")
    assert (said.code, said.err) == (0, "")
    assert "give --label and --good" in said.out


def test_check_sums_many_columns_up(
    faultcube: Faultcube, folder: Path, make_table: Callable[..., pl.DataFrame]
) -> None:
    random = np.random.default_rng(0)
    wide = make_table(**{f"load{i}": random.normal(size=240) for i in range(100)})
    wide.write_parquet(folder / "wide.parquet")
    said = faultcube("check", "wide.parquet", "--label", "label")
    assert re.search(r"load0, load1, load2, load3, load4, load5 and 94 more +gauge +0%", said.out)
    assert "load6" not in said.out


ODD = "\n".join(["load,mtu,label", *["1,5,good", "2,6,slow", "3,7,SLOW"] * 40, "ERR,8,good"]) + "\n"


def test_findings_that_stop_training_are_all_listed_with_code_1(
    faultcube: Faultcube, folder: Path
) -> None:
    (folder / "odd.csv").write_text(ODD)
    said = faultcube("check", "odd.csv", "--label", "label", "--good", "good", "--split-random")
    assert (said.code, said.err) == (1, "")
    assert (
        "stop: odd.csv: column 'load' holds numbers of one unit, but also 'ERR' in line 122"
        in said.out
    )
    assert "stop: labels differ only in case or blanks: 'SLOW'" in said.out
    assert said.out.endswith("2 findings would stop training\n")

    said = faultcube("train", "odd.csv", "--label", "label", "--good", "good", "--split-random")
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(
        r"faultcube: odd.csv: column 'load' [^\n]+ \(and 1 more: [^\n]+\n", said.err
    )

    some = ["--merge-labels", "--split-random"]
    said = faultcube("check", "odd.csv", "--label", "label", "--good", "good", *some)
    assert said.out.endswith("\n1 finding would stop training\n")

    mended = ["--merge-labels", "--missing", "ERR", "--split-random"]
    said = faultcube("check", "odd.csv", "--label", "label", "--good", "good", *mended)
    assert said.code == 0, said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("", 2, "give the table's path"),
        ("none.csv", 2, "there is no table none.csv"),
        ("--recipe none.toml", 2, "faultcube: there is no file none.toml\n"),
        ("there", 2, "it is a folder"),
        ("t.csv --label kind", 2, "no label column 'kind'"),
        ("t.csv --split-column fold", 2, "no split column 'fold'"),
        ("t.csv --separator ab", 2, "a separator is one ASCII character"),
        ("t.csv --encoding klingon", 2, "there is no encoding 'klingon'"),
        ("t.csv --decimal :", 2, "reading.decimal"),
        ("junk.csv", 1, "junk.csv cannot be read"),
        ("ragged.csv", 1, "line 3: 3 cells, where the header has 2"),
    ],
)
def test_check_answers_bad_input_in_one_line(
    faultcube: Faultcube, folder: Path, arguments: str, code: int, words: str
) -> None:
    (folder / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    said = faultcube("check", *arguments.split())
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert re.fullmatch(r"faultcube: [^\n]+\n", said.err)


def test_options_say_how_to_read_a_table(faultcube: Faultcube, folder: Path) -> None:
    text = "load:label\n1,5:gut\n2,5:schlecht\nweg:gut\n"
    (folder / "odd.txt").write_bytes(text.encode("utf-16"))
    options = ["--separator", ":", "--decimal", ",", "--encoding", "utf-16", "--missing", "weg"]
    said = faultcube("check", "odd.txt", "--label", "label", *options)
    assert said.code == 0
    assert re.search(r"^load +gauge +33%", said.out, re.MULTILINE)


def test_the_first_page_of_train_tells_what_became_of_columns_before_the_fit(
    faultcube: Faultcube, folder: Path, make_table: Callable[..., pl.DataFrame]
) -> None:
    sizes = [f"{i % 13} kB" for i in range(238)] + ["-", "N/A"]
    make_table(size=sizes).write_csv(folder / "sizes.csv")
    said = faultcube("train", "sizes.csv", *REST.split(), *QUICKLY)
    assert said.code == 0, said.err
    page, _, fit = said.out.partition("test           accuracy")
    assert fit
    assert "sizes.csv: 240 rows, 5 fields" in page
    assert "read as numbers: size (numbers in text; 2 cells such as '-' are missing)" in page
    assert "left out: device (an identifier" in page


COMPARED = "label = 'label'\ngood = 'good'\nsplit = {by = 'column', column = 'part'}\n" + QUICK


@pytest.fixture
def small(folder: Path) -> Path:
    """A whole recipe in a file, for commands that take no table."""
    (folder / "small.toml").write_text("name = 'small'\ntable = 't.csv'\n" + COMPARED)
    return folder


@pytest.mark.usefixtures("short_film")
def test_compare_prints_what_it_writes_and_the_command_that_gives_it_again(
    faultcube: Faultcube, small: Path
) -> None:
    asked = "--losses triplet,lossless --seeds 1 --epochs 2 --hold-out slow --out deep/new"
    said = faultcube("compare", "--recipe", "small.toml", *asked.split())
    assert said.code == 0, said.err
    text = (small / "deep/new/comparison.md").read_text()
    assert said.out == text + "\n"
    assert f"\nfaultcube compare --recipe small.toml {asked}\n" in text
    assert "2 epochs of 6 batches of 48" in text
    assert [line.split(" ")[1] for line in text.splitlines() if line.startswith("| ")] == [
        *("loss", "---", "triplet", "lossless", "raw", "LDA")
    ]
    assert re.fullmatch(r"wrote deep/new: comparison.md, [^\n]+\n", said.err)
    assert {str(p.relative_to(small / "deep/new")) for p in (small / "deep/new").rglob("*.*")} == {
        *("comparison.md", "animation.gif", "animation.html"),
        *("figures/log-curve.png", "figures/loss-by-epoch.png"),
    }


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--losses lossless,focal", "there is no loss 'focal'; the losses are lossless, linear"),
        ("--losses triplet,triplet", "named twice"),
        ("--seeds 0", "give --seeds 1 or more, not 0"),
        ("--jobs 0", "give --jobs 1 or more, not 0"),
        ("--epochs 0", "fit.epochs: "),
        ("--hold-out fire", "'fire' cannot be held out; the fault classes are lossy, slow"),
        ("--hold-out good", "good traffic, 'good', cannot be held out"),
        ("--animate slow", "give --animate twice"),
        ("--animate slow --animate fire", "'fire' cannot be animated"),
        ("--split-column fold", "no split column 'fold'"),
        ("--out there", "there exists"),
        ("--recipe none.toml", "there is no file none.toml"),
    ],
)
def test_compare_answers_bad_input_in_one_line_with_code_2_before_any_fit(
    faultcube: Faultcube, small: Path, monkeypatch: pytest.MonkeyPatch, option: str, words: str
) -> None:
    monkeypatch.setattr(
        "training.evaluation.loss_comparison.fit", lambda *_: pytest.fail("a fit began")
    )
    before = sorted(small.rglob("*"))
    options = ["--recipe", "small.toml", "--out", "new", *option.split()]
    said = faultcube("compare", *options)
    assert said.code == 2
    assert words in said.err
    assert re.fullmatch(r"faultcube: [^\n]+\n", said.err)
    assert said.out == ""
    assert sorted(small.rglob("*")) == before


@pytest.mark.parametrize("command", ["train", "schema"])
def test_help_names_every_option(faultcube: Faultcube, command: str) -> None:
    said = faultcube(command, "--help")
    assert said.code == 0
    for option in ("--recipe", "--label", "--good", "--ignore", "--keep", "--drop-label"):
        assert option in said.out
