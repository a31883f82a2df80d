"""Engines: what they yield, what they raise, and who dies; tests/e2e/test_archive.py runs each."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from models import engines
from models.engines import ENGINES, EngineError

LOCAL = ENGINES["local"]
PYTHON = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "tables.py", line 5, in read
KeyError: 1

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "tables.py", line 6, in read
    raise TableError(...)
          ^^^^^^^^^^^^^^^
{raised}

\tat org.apache.spark.api.python.BasePythonRunner
"""
ABORTED = """An error occurred while calling z:org.apache.spark.api.python.collect.
: org.apache.spark.SparkException: Job aborted: Python worker exited unexpectedly
\tat org.apache.spark.api.python.PythonRDD
Caused by: java.io.EOFException
"""


def halved(number: int) -> float:
    return 12 / number


def died_at_first(folder: Path, number: int) -> int:
    """Die when 3 is asked for the first time."""
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(1)
    return number


def dies(number: int) -> None:
    os._exit(number)


def test_every_unit_is_done_once_though_a_worker_dies(tmp_path: Path) -> None:
    found = sorted(LOCAL(2, partial(died_at_first, tmp_path), [3, 1, 4, 1, 5]))
    assert found == [1, 1, 3, 4, 5]
    assert (tmp_path / "died").exists()


def test_no_units_need_no_workers() -> None:
    assert [*LOCAL(1, dies, [])] == []


def test_what_the_work_raises_ends_the_engine() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        list(LOCAL(1, halved, [1, 0]))


def test_workers_that_die_three_times_are_given_up() -> None:
    with pytest.raises(EngineError, match=r"^workers died 3 times, .*; what is done stays done$"):
        list(LOCAL(1, dies, [7]))


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (PYTHON.format(raised="tables.TableError: a.csv: column 'x: y'"), "a.csv: column 'x: y'"),
        (PYTHON.format(raised="training.recipe.RecipeError: no points"), "no points"),
        (PYTHON.format(raised="KeyError: 'x'"), "KeyError: 'x'"),
        (ABORTED, "Spark gave up: Job aborted: Python worker exited unexpectedly"),
        ("[JAVA_GATEWAY_EXITED] no Java\n", "Spark gave up: [JAVA_GATEWAY_EXITED] no Java"),
        ("", "Spark gave up: ValueError"),
    ],
)
def test_a_report_of_spark_becomes_a_line(report: str, reason: str) -> None:
    assert engines._reason(ValueError(report)) == reason


@pytest.mark.parametrize("engine", ["ray", "spark"])
def test_an_engine_that_is_not_installed_names_its_extra(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "pyspark", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=rf"pip install -c constraints.txt '\.\[{engine}\]'"):
        list(ENGINES[engine](1, halved, [1]))
