"""Profiles of sites through `faultcube adapt` and `faultcube classify --profile`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from benchmarks.fuzz.toy import FIELDS, GOOD
from models import Model
from models.profile import Profile
from service.cli import adapt, classify
from service.offline.profiles import first_records, open_profile
from service.offline.tables import Table, TableError
from tests.support.bundles import put_bundle

MOVING = (
    FIELDS[0].model_copy(update={"typical": 12.5, "spread": 2.0}),
    FIELDS[1].model_copy(update={"spread": 0.0}),
    *FIELDS[2:],
)
"""The toy's fields, with what a profile needs to know of the training."""

app = typer.Typer(pretty_exceptions_enable=False)
app.command("adapt")(adapt)
app.command("classify")(classify)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def folder(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(MOVING)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A network whose usual load is an overload to the model; 300 records, one of them broken."""
    loads = [90.0 + 4 * (i % 5 - 2) for i in range(300)]
    table = pl.DataFrame([GOOD | {"cpu load": load} for load in loads])
    path = tmp_path / "site.csv"
    table.with_columns(pl.col("state").replace("busy", "idle")).write_csv(path)
    text = path.read_text().splitlines()
    path.write_text("\n".join([text[0], "much" + text[1][4:], *text[1:]]) + "\n")
    return path


def test_what_a_site_is_used_to_becomes_good_traffic(
    folder: Path, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site.json"
    said = call("adapt", folder, site, "--out", out)
    assert said.exit_code == 0, said.output
    assert "1 rows do not fit the schema and are left out" in said.stderr
    lines = [line.split() for line in said.stdout.splitlines()]
    assert lines[0] == ["field", "typical", "training", "spread", "ratio"]
    assert lines[1][:4] == ["cpu", "load", "90", "12.5"]
    shares = {line[0]: line[1:] for line in lines[lines.index(["label", "before", "after"]) + 1 :]}
    assert shares["normal"] == ["0.0%", "100.0%"]
    profile = Profile.read(out)
    assert (profile.records, profile.levels["cpu load"].typical) == (300, 90)

    options = ["--bundle", folder, "--on-invalid", "report"]
    plain, adapted = tmp_path / "plain.csv", tmp_path / "adapted.csv"
    assert call("classify", site, *options, "--out", plain).exit_code == 0
    assert call("classify", site, *options, "--profile", out, "--out", adapted).exit_code == 0
    assert "normal" not in set(pl.read_csv(plain)["label"])
    assert set(pl.read_csv(adapted)["label"][1:]) == {"normal"}


def test_only_the_first_rows_that_fit_are_learned_from(folder: Path, site: Path) -> None:
    table = Table(site, Model.load(folder).schema)
    matrix, faulty = first_records(table, 150)
    assert (matrix.shape, faulty) == ((150, 5), 1)
    np.testing.assert_array_equal(matrix[:5, 0], [82, 86, 90, 94, 98])
    assert len(first_records(table, 10_000)[0]) == 300


def test_records_that_stay_faulty_are_refused_unless_forced(
    folder: Path, site: Path, tmp_path: Path
) -> None:
    text = site.read_text().replace("true", "false")
    site.write_text(text)
    out = tmp_path / "site.json"
    said = call("adapt", folder, site, "--out", out)
    assert said.exit_code == 2
    assert said.stderr.splitlines()[-1] == (
        "faultcube: 100% of these records would still be called other than good: learn from "
        "records of a time without faults, or force it"
    )
    assert not out.exists()
    assert call("adapt", folder, site, "--out", out, "--force").exit_code == 0
    assert Profile.read(out).records == 300


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--records", "99"], "99 records are too few to learn a profile from: give 100 at least"),
        (["--out", "site.txt"], "site.txt ends in none of .json"),
    ],
)
def test_what_cannot_be_learned_or_written_is_refused_in_a_line(
    arguments: list[str], why: str, folder: Path, site: Path, tmp_path: Path
) -> None:
    said = call("adapt", folder, site, "--out", tmp_path / "site.json", *arguments)
    assert said.exit_code == 2
    assert why in said.stderr.splitlines()[-1]


def test_another_ending_is_refused_before_anything_is_learned(folder: Path, tmp_path: Path) -> None:
    said = call("adapt", folder, tmp_path / "none.csv", "--out", tmp_path / "site.txt")
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr == f"faultcube: {tmp_path / 'site.txt'} ends in none of .json\n"


def test_a_bundle_without_spreads_takes_no_profile(
    bundle: Path, site: Path, tmp_path: Path
) -> None:
    said = call("adapt", bundle, site, "--out", tmp_path / "site.json")
    assert said.exit_code == 2
    assert "a profile would change nothing" in said.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"records": 100, "levels": {}}, "changes no field of this bundle"),
        ({"records": 100}, "is no profile: make one with `faultcube adapt`"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(
    content: Any, why: str, folder: Path, site: Path, tmp_path: Path
) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(TableError, match=why):
        open_profile(path, Model.load(folder))
    said = call("classify", site, "--bundle", folder, "--profile", path)
    assert said.exit_code == 2
    assert why in said.stderr


def test_a_bundle_of_sites_is_not_used_without_a_profile(
    folder: Path, site: Path, tmp_path: Path
) -> None:
    put_bundle(folder, tmp_path / "adapted", adapted=True)
    said = call("classify", site, "--bundle", tmp_path / "adapted")
    assert said.exit_code == 2
    assert "needs a profile of the site" in said.stderr
