from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from training.evaluation.operations import Operations, measure_operations
from training.reports.plain_words import in_words, series_rows, terms, verdict_on_data

CLASSES = ("good", "slow", "lossy")


def measured(
    truth: str, said: str, devices: int = 1, without: tuple[str, ...] = (), **changes: str
) -> Operations:
    """Every device sees the same, a record each 10 s; the verdicts of some may be given by name."""
    codes = {".": 0, "s": 1, "l": 2}
    records = pl.DataFrame(
        {
            "time": [10.0 * place for _ in range(devices) for place in range(len(truth))],
            "series": [f"r{device}" for device in range(devices) for _ in truth],
            "event": [mark if mark != "." else None for mark in truth] * devices,
        }
    )
    labels = np.array([codes[mark] for mark in truth * devices])
    verdicts = "".join(changes.get(f"r{device}", said) for device in range(devices))
    return measure_operations(
        labels, np.array([codes[m] for m in verdicts]), CLASSES, records.drop(without), 20
    )


def test_what_happened_is_told_in_numbers_that_can_be_checked_by_hand() -> None:
    operations = measured("........ssss........", "s.........ls........", devices=2)
    assert in_words(operations) == [
        (
            "Of 1,000 good records 62 raise a false alarm (2 of 32), in 2 episodes within "
            "5.3 minutes of good traffic: 540 a day and device."
        ),
        (
            "Of 1 fault event 1 was found, after 20 s at the median; 1 was given the right name, "
            "after 30 s at the median."
        ),
        "At each device by itself, 2 of 2 were found (slow 2 of 2).",
    ]
    assert verdict_on_data(operations) == (
        "These figures stand on 1 event; 40 records; 2 series (series: 2); 6.7 minutes of "
        "observation, all series added up. Records of one event are much alike, so each event "
        "counts once: of all such events, it would find between 21% and 100% (95% confidence); "
        "more events would tell more. Alarms as frequent as the false ones would find 0.39 of 1 "
        "by chance."
    )


def test_what_was_missed_and_what_cannot_be_judged_is_told() -> None:
    running = " ".join(in_words(measured("...ssss...", "..sssss...")))
    assert (
        "Of 1 fault event 0 were found; 0 were given the right name; 1 was missed although"
        in running
    )
    records = pl.DataFrame({"event": [None, "a", "b"]})
    close = measure_operations(np.array([0, 1, 1]), np.array([0, 1, 1]), CLASSES, records)
    assert "By class, 1 of 1 was found (slow 1 of 1); 1 more cannot be judged" in in_words(close)[2]
    nameless = measure_operations(
        np.array([0, 1, 1]),
        np.array([0, 1, 1]),
        CLASSES,
        records.with_columns(event=pl.lit(None, pl.String)),
    )
    assert "Not counted there: 2 faulty records that no event is named for." in in_words(nameless)
    assert "Without events nothing is known of how many it would find." in verdict_on_data(nameless)


@pytest.mark.parametrize(
    "missing", [("time",), ("series",), ("event",), ("time", "series", "event")]
)
def test_what_the_recipe_could_name_is_told_in_one_line(missing: tuple[str, ...]) -> None:
    operations = measured("..ss..", ".ss...", without=missing)
    last = in_words(operations)[-1]
    assert last.startswith("The recipe could name more columns: ")
    assert tuple(re.findall(r"`(\w+)`", last)) == missing
    assert "\n" not in last


def test_without_series_nothing_is_said_of_devices() -> None:
    operations = measured("....", "s...", without=("series",))
    assert "2,160 a day." in in_words(operations)[0]
    assert "device" not in in_words(operations)[0]


def test_without_times_episodes_are_counted_per_thousand_records() -> None:
    operations = measured("....", "ss.s", without=("time",))
    assert in_words(operations)[0].endswith("(3 of 4), in 2 episodes: 500 in 1,000 good records.")
    assert "on neighbouring records" in terms(operations)
    assert "20 s (or two usual intervals) apart" in terms(measured("..", ".."))


def test_without_good_records_nothing_is_said_of_false_alarms() -> None:
    assert in_words(measured("ss", "ss"))[0].startswith("No test row is good traffic")


def test_many_events_need_no_more() -> None:
    labels = np.tile([0, 1], 200)
    records = pl.DataFrame({"event": [str(place) for place in range(400)]})
    text = verdict_on_data(measure_operations(labels, labels, CLASSES, records))
    assert "between 98% and 100% (95% confidence)." in text


def test_the_worst_series_have_a_row_and_the_others_share_one() -> None:
    operations = measured("....", "....", devices=14, r3="ss..", r1="s...", r9=".ss.")
    assert series_rows(operations) == [
        ["r3", "4", "2", "500", "1"],
        ["r9", "4", "2", "500", "1"],
        ["r1", "4", "1", "250", "1"],
        ["the other 11", "44", "0", "0", "0"],
    ]
    assert series_rows(measured("..", "..")) == [["all 1", "2", "0", "0", "0"]]
    many = series_rows(measured("..", "s.", devices=14))
    assert len(many) == 11
    assert many[-1] == ["the other 4", "8", "4", "500", "4"]


def test_names_from_the_table_are_shown_as_asked() -> None:
    def show(name: str) -> str:
        return f"<{name}>"

    operations = measured("....ss", "s...ss")
    assert "(<slow> 1 of 1)" in in_words(operations, show)[2]
    assert "(<series>: 1)" in verdict_on_data(operations, show)
    assert series_rows(operations, show)[0][0] == "<r0>"
