from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import typer

from benchmarks.ingest import fuzz
from service.formats.errors import MalformedInputError
from service.ingest.decoded import Decoded
from service.ingest.receivers import RECEIVERS


def test_every_receiver_has_seeds() -> None:
    assert fuzz.SEEDS.keys() == {*RECEIVERS, "snappy"}
    assert all(fuzz.SEEDS.values())


def test_a_body_is_made_of_its_number_alone() -> None:
    one, other = (fuzz.mutated("collectd", Random("0 collectd 7")) for _ in range(2))
    assert one == other


def broken(*_: object) -> Decoded:
    raise ZeroDivisionError


def talkative(*_: object) -> Decoded:
    raise MalformedInputError("two\nlines")


@pytest.mark.parametrize(
    ("decode", "fault"), [(broken, "raised: ZeroDivisionError"), (talkative, "message: two")]
)
def test_a_fault_is_found_and_kept(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    decode: object,
    fault: str,
) -> None:
    changed = replace(RECEIVERS["gnmic"], decode=decode)  # type: ignore[arg-type]
    monkeypatch.setitem(RECEIVERS, "gnmic", changed)
    with pytest.raises(typer.Exit):
        fuzz.main(inputs=1, findings=tmp_path)
    assert f"1 x gnmic: {fault}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["gnmic-0-0"]


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fuzz.main(inputs=1, findings=tmp_path / "none")
    assert capsys.readouterr().out.startswith("9 bodies in ")
    assert not (tmp_path / "none").exists()
