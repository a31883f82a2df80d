from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.model import Model
from models.schema import Field, Schema
from models.telemetry.mapping import Mapping, MappingError, Wide, meanings
from tests.support.feeds import GAUGE, mapping_of

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "training/data/cisco-iosxr/mapping.toml"

BAD = {
    "no fields": ("", "fields: missing"),
    "no TOML": ("[[fields]", "line"),
    "unknown key": (f"{GAUGE}\ncolour = 1", "fields.0.colour: a mapping has no such key"),
    "no metric": ('[[fields]]\nname = "x"', "fields.0.metric: missing in 'x'"),
    "two sources": (
        f'{GAUGE}\n[[fields]]\nname = "load"\nmetric = "cpu"',
        "field 'load' has two sources, metric 'load' and metric 'cpu'; give one of them another",
    ),
    "bits of a gauge": (f"{GAUGE}\nbits = 32", 'has bits, which only kind = "counter" takes'),
    "bits of 31": (f'{GAUGE}\nkind = "counter"\nbits = 31', "fields.0.bits"),
    "states of a gauge": (f"{GAUGE}\nstates = {{ up = 1 }}", "which only kind = \"state\" takes"),
    "share of nothing": (f'{GAUGE}\naggregate = "share_below"', "needs below"),
    "below of a sum": (f'{GAUGE}\naggregate = "sum"\nbelow = 1', "which only aggregate"),
    "active without each": (f"{GAUGE}\nactive = 1", 'which only relation = "each" takes'),
    "list without a place": (
        '[[fields]]\nname = "x"\nmetric = ["a", "b"]',
        "field 'x' has a list of metrics, and needs {metric} in its name",
    ),
    "no expression": (f"{GAUGE}\n[wide]\ncolumns = ['(']", "'(' is no regular expression"),
    "no group": (f"{GAUGE}\n[wide]\ncolumns = ['a.*']", "has no group (?P<metric>...)"),
    "infinite": (f"{GAUGE}\nabsent = inf", "finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_mapping_that_cannot_be_used_is_refused_in_one_line(case: str) -> None:
    fields, words = BAD[case]
    with pytest.raises(MappingError) as error:
        mapping_of(fields)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_to_forget_takes_longer_than_the_lateness() -> None:
    with pytest.raises(MappingError, match="forget must be longer"):
        mapping_of(GAUGE, "lateness = 60\nforget = 60")


def test_lateness_is_bounded_because_it_is_kept() -> None:
    mapping_of(GAUGE, "lateness = 500")
    with pytest.raises(MappingError, match="lateness must be 100 intervals at most"):
        mapping_of(GAUGE, "lateness = 501")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"nowhere\.toml cannot be read"):
        Mapping.read(tmp_path / "nowhere.toml")


def test_a_list_of_metrics_makes_a_field_of_each() -> None:
    mapping = mapping_of('[[fields]]\nname = "rel_{metric}"\nmetric = ["a", "b"]')
    assert mapping.names == ("rel_a", "rel_b")
    assert [field.metric for field in mapping.fields] == ["a", "b"]


def test_the_first_expression_that_fits_makes_metric_and_tags_of_a_column() -> None:
    wide = Wide(columns=(r"(?P<port>Hu[\d/]+)(?P<slot>s\d)?(?P<metric>[a-z]+)", r"x(?P<metric>.*)"))
    assert wide.series_of("Hu0/1rate") == ("rate", {"port": "Hu0/1"})
    assert wide.series_of("Hu0/1s2rate") == ("rate", {"port": "Hu0/1", "slot": "s2"})
    assert wide.series_of("xray") == ("ray", {})
    assert wide.series_of("load") == ("load", {})


def test_the_shipped_mapping_fits_the_shipped_model() -> None:
    Mapping.read(SHIPPED).check(Model.load(ROOT / "models/iosxr").schema)


def test_a_mapping_and_a_model_that_do_not_fit_are_told_what_to_change() -> None:
    load = Field(name="load", kind="gauge")
    mapping_of(GAUGE).check(Schema([load, Field(name="spare", kind="gauge", required=False)]))
    for fields, schema, words in (
        ('[[fields]]\nname = "laod"\nmetric = "load"', [load], "did you mean 'load'?"),
        (GAUGE, [Field(name="other", kind="gauge")], "no field 'load'; leave it out"),
        (f'{GAUGE}\nunit = "%"', [load], "field 'load' is in '%', and the model takes '1'"),
        (GAUGE, [Field(name="load", kind="boolean")], "is a boolean in the model"),
        (GAUGE, [load, Field(name="b", kind="gauge")], "needs a field 'b'; add [[fields]] for it"),
    ):
        with pytest.raises(MappingError) as error:
            mapping_of(fields).check(Schema(schema))
        assert words in str(error.value)


def test_a_mapping_without_some_fields_is_another_one() -> None:
    mapping = mapping_of(f'{GAUGE}\n[[fields]]\nname = "cpu"\nmetric = "cpu"')
    assert mapping.without({"other"}) is mapping
    assert mapping.without({"cpu"}).names == ("load",)
    assert mapping.without({"cpu"}).fingerprint == mapping_of(GAUGE).fingerprint
    with pytest.raises(MappingError, match="it makes no field of the model"):
        mapping.without({"cpu", "load"}).check(Schema([Field(name="b", kind="gauge")]))


def test_a_state_that_is_text_has_a_number() -> None:
    mapping = mapping_of(f'{GAUGE}\nkind = "state"\nstates = {{ up = 1, down = 0, "2" = 0 }}')
    assert mapping.number("load", "2") == 2
    meant = meanings({"up": 1, "down": 0, "2": 0})
    assert [meant[mapping.number("load", text)] for text in ("up", "down", "2")] == [1, 0, 0]
    assert meant[1.0] == 1  # what devices send may be what the text means
    assert 0.0 not in meant  # but 2 is sent for it, as the mapping says
    assert math.isnan(mapping.number("load", "dormant"))
    assert math.isnan(mapping.number("cpu", "up"))


def test_states_that_are_sent_alike_and_mean_different_things_are_refused() -> None:
    with pytest.raises(MappingError, match=r"states '1' and '1\.0' are sent alike"):
        mapping_of(f'{GAUGE}\nkind = "state"\nstates = {{ "1" = 0, "1.0" = 1 }}')


def test_brackets_in_the_name_of_a_metric_are_brackets() -> None:
    states = 'kind = "state"\nstates = { up = 1 }'
    mapping = mapping_of(f'[[fields]]\nname = "x"\nmetric = "alive [s]*"\n{states}')
    assert not math.isnan(mapping.number("alive [s] now", "up"))
    assert math.isnan(mapping.number("alive s now", "up"))


def test_a_record_of_an_interval_has_the_time_of_its_end() -> None:
    times = np.array([-1, 0, 4_999_999_999, 5_000_000_000])
    assert mapping_of(GAUGE).record_times(times) is times
    ends = mapping_of(GAUGE, 'align = "interval"').record_times(times)
    assert ends.tolist() == [0, 5_000_000_000, 5_000_000_000, 10_000_000_000]


def test_mappings_that_say_the_same_have_the_same_fingerprint() -> None:
    assert mapping_of(GAUGE).fingerprint == mapping_of(f"{GAUGE}\nfloor = 1").fingerprint
    assert mapping_of(GAUGE).fingerprint != mapping_of(f"{GAUGE}\nfloor = 2").fingerprint
