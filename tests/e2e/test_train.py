"""Training as a user does it: the command line in a checkout, and a service on the result."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import classify, environment, output_of, running

REBUILD = "faultcube train --recipe training/iosxr.toml --out build/iosxr"
OWN = "faultcube train training/data/cisco-iosxr/cisco_iosxr_features.csv.gz --name mine --label label --good normal --drop-label recovering --drop-label port_flap_elsewhere --split-time time --split-within run --epochs 2 --out build/mine"  # noqa: E501
TOGETHER = "torchrun --nproc-per-node 2 $(which faultcube) train training/data/cisco-iosxr/cisco_iosxr_features.csv.gz --name mine --label label --good normal --drop-label recovering --drop-label port_flap_elsewhere --split-time time --split-within run --epochs 2 --out build/together"  # noqa: E501
COMPARE = "faultcube compare --recipe training/iosxr.toml --split-column c --hold-out port_flap --no-linear --out build/comparison"  # noqa: E501
EVALUATE = "faultcube evaluate --recipe training/iosxr.toml --split-column c --hold-out port_flap"
PROGRAMS = Path(sys.executable).parent
SERVE = "faultcube serve build/mine"


def run(command: str, cwd: Path) -> str:
    program, *arguments = shlex.split(command)
    return output_of([str(PROGRAMS / program), *arguments], cwd=cwd, env=environment())


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def test_the_shipped_recipe_rebuilds_the_shipped_bundle(checkout: Path, bundle: Path) -> None:
    run(REBUILD, checkout)
    ours, built = manifest(bundle), manifest(checkout / "build" / "iosxr")
    assert built["fields"] == ours["fields"]
    assert [c["name"] for c in built["classes"]] == [c["name"] for c in ours["classes"]]
    # On another kind of processor the last bits differ, and training carries them on.
    for split, other in [
        (built["metrics"]["test"], ours["metrics"]["test"]),
        *zip(
            built["metrics"]["backtests"].values(),
            ours["metrics"]["backtests"].values(),
            strict=True,
        ),
    ]:
        assert split["records"] == other["records"]
        assert split["nearest"]["macro_f1"] == pytest.approx(other["nearest"]["macro_f1"], abs=0.03)
    if built["files"]["encoder.onnx"] == ours["files"]["encoder.onnx"]:
        assert built["version"] == ours["version"]


@pytest.fixture(scope="module")
def by_hand(checkout: Path) -> Path:
    """The folder of a bundle that was trained by options alone."""
    run(OWN, checkout)
    return checkout / "build" / "mine"


def test_a_bundle_trained_by_hand_is_served(checkout: Path, by_hand: Path) -> None:
    command = f"{PROGRAMS}/{SERVE}"
    env = environment(FAULTCUBE_PORT="0")
    with running(command, cwd=checkout, env=env, seconds=60) as (_, url):
        given = classify(url, (by_hand / "examples.json").read_bytes())
    names = {known["name"] for known in manifest(by_hand)["classes"]}
    assert len(given) == len(names)
    assert set(given) <= names | {"unknown"}


def test_two_processes_train_what_one_does(checkout: Path, by_hand: Path) -> None:
    said = output_of(["bash", "-euc", TOGETHER], cwd=checkout, env=with_programs())
    assert said.count("wrote build/together") == said.count("csv.gz: 15771 rows") == 1
    alone, together = manifest(by_hand), manifest(checkout / "build" / "together")
    assert together["fields"] == alone["fields"]
    assert together["training"]["rows"] == alone["training"]["rows"]
    one, two = (each["metrics"]["test"]["nearest"]["macro_f1"] for each in (alone, together))
    assert two == pytest.approx(one, abs=0.05)  # what drops out differs


def test_a_process_that_is_killed_ends_the_training_and_nothing_is_written(
    checkout: Path, tmp_path: Path
) -> None:
    command = TOGETHER.replace("--epochs 2", "--epochs 500").replace("build", str(tmp_path))
    with subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=checkout,
        env=with_programs(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as torchrun:
        assert torchrun.stdout is not None
        begun = next(line for line in torchrun.stdout if line.startswith("left out:"))
        os.kill(process_of_rank(1, torchrun.pid), signal.SIGKILL)
        rest = torchrun.stdout.read()
    assert torchrun.returncode == 1, begun + rest
    told = [line for line in rest.splitlines() if line.startswith("faultcube: ")]
    assert told in ([], ["faultcube: another process of this training ended, and so does this"])
    assert [*tmp_path.iterdir()] == []


def with_programs() -> dict[str, str]:
    """The environment of a shell whose path has the programs of this one's."""
    return environment(PATH=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")


def process_of_rank(rank: int, torchrun: int) -> int:
    """The process that torchrun gave a rank."""
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no process has rank {rank}")


def test_an_unseen_class_is_enrolled_from_few_records(checkout: Path) -> None:
    lines = run(EVALUATE, checkout).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[3:]]
    assert [row[:2] for row in rows] == [
        [space, shots] for space in ("embedding", "raw", "lda") for shots in ("1", "5")
    ]
    macro_f1 = {}
    for space, shots, _, both, *_ in rows:
        mean, deviation = map(float, both.split(" ± "))
        assert 0.4 < mean < 1  # one class of four by chance, three of them by rote: 0.25
        assert 0 <= deviation < 0.2
        macro_f1[space, shots] = mean
    for shots in ("1", "5"):
        assert macro_f1["embedding", shots] > max(macro_f1["raw", shots], macro_f1["lda", shots])


def test_the_losses_are_compared(checkout: Path) -> None:
    said = run(f"{COMPARE} --seeds 1 --epochs 1 --losses lossless,triplet", checkout)
    folder = checkout / "build" / "comparison"
    written = (folder / "comparison.md").read_text()
    assert "| lossless |" in written
    assert "| triplet |" in written
    assert "separate" in said
    assert (folder / "animation.gif").read_bytes().startswith(b"GIF89a")
    page = (folder / "animation.html").read_text()
    assert not re.search(r"(src|href)=.?https?:", page)
