from __future__ import annotations

from tests.support.feeds import GAUGE, Feed, feed_of

A = {"device": "a"}


def fed(values: list[float], step: float = 5, head: str = "", fields: str = GAUGE) -> Feed:
    feed = feed_of(fields, head)
    for number, value in enumerate(values):
        feed.add(("load", A, step * number, value))
    feed.finish()
    return feed


def test_a_gauge_that_only_rises_is_a_counter() -> None:
    rising = [float(number + number // 3) for number in range(30)]
    (line,) = fed(rising).assembler.findings()
    assert line == (
        "field 'load' is a gauge, but 'load' rose 29 times and fell 0 times: it is a counter, "
        'set kind = "counter"'
    )
    assert fed(rising, fields=f'{GAUGE}\nkind = "counter"').assembler.findings() == []
    assert fed(rising + rising[::-1]).assembler.findings() == []
    assert fed([1.0] * 50).assembler.findings() == []


def test_an_interval_that_nobody_keeps_is_told_with_the_one_that_is_kept() -> None:
    (line,) = fed([1.0, 2.0] * 10, step=10).assembler.findings()
    assert line == "records come every 10 s, and the mapping says interval = 5: change it to 10"
    aligned = 'align = "interval"'
    assert "every 20 s" in fed([1.0, 2.0] * 10, step=20, head=aligned).assembler.findings()[0]
    assert fed([1.0, 2.0] * 20, step=1, head=aligned).assembler.findings() == []
    assert fed([1.0, 2.0] * 10, step=6).assembler.findings() == []
    assert fed([1.0, 2.0], step=10).assembler.findings() == []


def test_a_field_without_a_value_is_told() -> None:
    (line,) = fed(
        [1.0], fields=f'{GAUGE}\n[[fields]]\nname = "x"\nmetric = "y"'
    ).assembler.findings()
    assert line == "field 'x' never had a value from points of 'y'"
