from __future__ import annotations

from models.telemetry.points import Series
from models.telemetry.views import Views
from tests.support.feeds import mapping_of

FIELDS = """
[[fields]]
name = "sum"
metric = "if_*"
tags = { port = "Ethernet*" }
aggregate = "sum"
[[fields]]
name = "mean"
metric = "if_*"
tags = { port = "Ethernet*" }
aggregate = "mean"
[[fields]]
name = "least"
metric = "if_in"
aggregate = "min"
"""


def test_fields_of_the_same_series_share_a_view() -> None:
    views = Views(mapping_of(FIELDS))
    assert [view.metric for view in views.views] == ["if_*", "if_in"]
    assert views.of_field.tolist() == [0, 0, 1]


def test_a_series_has_a_view_of_each_pattern_that_fits_it() -> None:
    views = Views(mapping_of(FIELDS))
    ethernet, loopback = {"port": "Ethernet1"}, {"port": "lo"}
    assert views.match(Series("if_in", ethernet)) == (0, (0, 1))
    assert views.match(Series("if_out", ethernet)) == (0, (0,))
    assert views.match(Series("if_in", loopback)) == (0, (1,))
    assert views.match(Series("if_out", loopback)) is None
    assert views.match(Series("if_out", {})) is None
    assert views.match(Series("load", ethernet)) is None


def test_a_series_is_read_in_one_way_and_another_is_told_of() -> None:
    views = Views(mapping_of(FIELDS.replace('"min"', '"min"\nkind = "counter"')))
    assert views.match(Series("if_in", {"port": "Ethernet1"})) == (0, (0,))
    assert views.match(Series("if_in", {"port": "lo"})) == (1, (1,))
    (conflict,) = views.conflicts
    assert "fields 'sum' and 'least' read the same series in two ways" in conflict


def test_a_gauge_and_a_counter_of_one_metric_share_no_view() -> None:
    pair = [f'[[fields]]\nname = "{k}"\nmetric = "x"\nkind = "{k}"' for k in ("gauge", "counter")]
    views = Views(mapping_of("\n".join(pair)))
    assert views.match(Series("x", {})) == (0, (0,))
    assert views.of_field.tolist() == [0, 1]  # the counter gets none of them, as the finding says
    assert len(views.conflicts) == 1


def test_counters_that_differ_in_their_bits_alone_share_a_view() -> None:
    rule = '[[fields]]\nname = "{}"\nmetric = "x"\nkind = "counter"\nbits = {}'
    views = Views(mapping_of("\n".join([rule.format("a", 64), rule.format("b", 0)])))
    assert views.match(Series("x", {})) == (0, (0,))
    assert views.of_field.tolist() == [0, 0]
    assert len(views.conflicts) == 1


def test_brackets_in_the_name_of_a_metric_are_brackets() -> None:
    for metric in ("alive [s]", "alive [s]*"):
        views = Views(mapping_of(f'[[fields]]\nname = "x"\nmetric = "{metric}"'))
        assert views.match(Series("alive [s]", {})) == (0, (0,))
        assert views.match(Series("alive s", {})) is None


def test_names_of_metrics_are_remembered_without_growing_for_ever() -> None:
    views = Views(mapping_of(FIELDS))
    for number in range(20_001):
        assert views.match(Series(f"foreign{number}", {})) is None
    assert len(views._remembered) <= 10_000
