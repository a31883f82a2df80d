from __future__ import annotations

from service.live import verdicts
from service.live.verdicts import Verdict, Verdicts


def test_a_verdict_has_one_number_and_good_traffic_no_severity() -> None:
    known = Verdicts()
    labels, good = ["down", "normal", "down"], [False, True, False]
    codes = known.codes(labels, good, {"down": "major", "normal": "minor"})
    assert codes.tolist() == [0, 1, 0]
    assert [known[0], known[1]] == [Verdict("down", False, "major"), Verdict("normal", True, None)]
    assert known.codes(["normal"], [True], {}).tolist() == [1]


def test_what_a_label_meant_then_stays() -> None:
    known = Verdicts()
    [before] = known.codes(["jitter"], [False], {"jitter": "minor"})
    [after] = known.codes(["jitter"], [False], {"jitter": "critical"})
    assert known[int(before)].severity == "minor"
    assert known[int(after)].severity == "critical"


def test_more_verdicts_than_numbers_are_one() -> None:
    known = Verdicts()
    most = verdicts._MAX
    labels = [f"class {n}" for n in range(most + 3)]
    codes = known.codes(labels, [False] * len(labels), {})
    assert codes[:most].tolist() == [*range(most)]
    others = {known[code].label for code in codes[most:].tolist()}
    assert others == {"(other)"}
