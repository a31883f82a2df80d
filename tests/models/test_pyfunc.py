from __future__ import annotations

import csv
import errno
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from models import Bundle, Model, RecordError, pyfunc
from models.cli import log_model
from models.pyfunc import BundleModel
from tests.models.conftest import EXAMPLES
from tests.support.running import environment, output_of

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models" / "iosxr"
TABLE = str(ROOT / "training" / "data" / "cisco-iosxr" / "cisco_iosxr_features.csv.gz")
COMMAND = str(Path(sys.executable).with_name("faultcube"))
needs_mlflow = pytest.mark.skipif(
    not find_spec("mlflow"), reason="mlflow is not installed: pip install '.[mlflow]'"
)

PREDICT = """
import sys
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[1])
model.predict(pd.read_csv(sys.argv[2])).to_csv(sys.argv[3], index_label="row")
print(*(name for name in ("torch", "service", "training") if name in sys.modules))
"""
Invoked = Any


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that ships, as the command writes it."""
    out = tmp_path_factory.mktemp("mlflow") / "iosxr"
    output_of(
        [COMMAND, "log-model", "models/iosxr", "--out", str(out)], cwd=ROOT, env=environment()
    )
    return out


def invoke(*arguments: str | Path) -> Invoked:
    app = typer.Typer()
    app.command()(log_model)
    return CliRunner().invoke(app, [*map(str, arguments)])


@needs_mlflow
def test_mlflow_loads_it_and_gives_the_verdicts_of_classify(saved: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.csv", tmp_path / "ours.csv"
    env = environment(MLFLOW_DISABLE_TELEMETRY="true")
    loaded = output_of(
        [sys.executable, "-c", PREDICT, str(saved), TABLE, str(theirs)], cwd=tmp_path, env=env
    )
    assert not loaded.strip(), "it stands on `models` alone"
    output_of([COMMAND, "classify", TABLE, "--out", str(ours)], cwd=tmp_path, env=env)
    rows = [[*csv.DictReader(path.read_text().splitlines())] for path in (theirs, ours)]
    assert len(rows[0]) == len(rows[1]) > 15_000
    for one, other in zip(*rows, strict=True):
        for name in ("row", "label", "nearest"):
            assert one[name] == other[name]
        assert one["good"].lower() == other["good"]
        for name in ("distance", "confidence"):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-6, abs=1e-9)


@needs_mlflow
def test_the_folder_holds_the_bundle_and_nothing_pickled(saved: Path) -> None:
    bundle = Bundle.read(saved / "data" / "iosxr")
    assert bundle.manifest == Bundle.read(SHIPPED).manifest
    assert not [path for path in saved.rglob("*") if path.suffix in {".pkl", ".pickle"}]
    described = (saved / "MLmodel").read_text()
    assert "loader_module: models.pyfunc" in described
    assert bundle.manifest.version in described
    assert "faultcube==" in (saved / "requirements.txt").read_text()
    assert [path.name for path in saved.parent.iterdir()] == ["iosxr"]


def test_a_table_may_miss_cells_and_columns_and_have_others(
    model: Model, examples: list[dict[str, object]]
) -> None:
    table = pd.DataFrame(examples, index=["a", "b", "c"]).assign(note="other")
    table["latency"] = table["latency"].astype("float32")
    made = BundleModel(model).predict(table[sorted(table.columns)])
    assert made.index.tolist() == ["a", "b", "c"]
    expected = model.classify(examples)
    assert made["label"].tolist() == [verdict.label for verdict in expected]
    assert made["good"].tolist() == [verdict.good for verdict in expected]
    assert made["distance"].tolist() == [verdict.distance for verdict in expected]
    without = BundleModel(model).predict(table.drop(columns="drops").iloc[2:])
    assert without["label"].tolist() == [expected[2].label]
    assert BundleModel(model).predict(table.iloc[:0]).columns.tolist() == made.columns.tolist()
    with pytest.raises(RecordError, match="no such field"):
        BundleModel(model).predict(pd.DataFrame({"latency;drops": ["1;2"] * 3}))


def test_a_record_that_does_not_fit_is_named(model: Model) -> None:
    table = pd.DataFrame(EXAMPLES).assign(link="string and can")
    with pytest.raises(RecordError, match="link"):
        BundleModel(model).predict(table)
    with pytest.raises(ValueError, match="takes no params, not even 'depth'"):
        BundleModel(model).predict(pd.DataFrame(EXAMPLES), {"depth": 1})


def test_without_mlflow_its_extra_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    told = invoke(SHIPPED, "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert told.stderr == (
        "faultcube: mlflow is not installed: pip install -c constraints.txt '.[mlflow]'\n"
    )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("bundle", "out", "why"),
    [
        ("iosxr", "here", "here cannot be written: File exists"),
        ("altered", "out", "encoder.onnx was altered or cut off"),
        ("adapted", "out", "its records need the profile of a site"),
        ("gone", "out", "manifest.json cannot be read"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line_and_leaves_nothing(
    tmp_path: Path, bundle: str, out: str, why: str
) -> None:
    (tmp_path / "here").touch()
    read = Bundle.read(SHIPPED)
    read.write(tmp_path / "iosxr")
    read.write(tmp_path / "altered")
    (tmp_path / "altered" / "encoder.onnx").write_bytes(b"")
    content = json.loads(read.manifest.model_dump_json(exclude={"version", "files"}))
    Bundle.make(read.files, **(content | {"adapted": True})).write(tmp_path / "adapted")
    before = {*tmp_path.rglob("*")}
    told = invoke(tmp_path / bundle, "--out", tmp_path / out)
    assert told.exit_code == 2
    assert why in told.stderr
    assert told.stderr.count("\n") == 1
    assert {*tmp_path.rglob("*")} == before


def test_a_folder_that_mlflow_could_not_finish_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_model(path: str, **_: object) -> None:
        Path(path).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    made = ModuleType("mlflow.pyfunc")
    monkeypatch.setattr(made, "save_model", save_model, raising=False)
    whole = ModuleType("mlflow")
    monkeypatch.setattr(whole, "pyfunc", made, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", whole)
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", made)
    told = invoke(SHIPPED, "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert "out cannot be written: No space left on device" in told.stderr
    assert not [*tmp_path.iterdir()]


def test_mlflow_calls_the_loader_by_its_name() -> None:
    loaded = pyfunc._load_pyfunc(str(SHIPPED))
    assert isinstance(loaded, BundleModel)
