from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.counters import Counters, Histogram, ProcessStatus
from service.observability.drift import Drifts
from service.observability.exposition import CPU_SECONDS, Exposition

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


def samples(
    counters: Counters | None = None,
    *statuses: ProcessStatus,
    drift: tuple[int, Drifts | None] = (0, None),
) -> Samples:
    text = Exposition(counters or Counters(), statuses, drift).text().decode()
    return {
        (sample.name.removeprefix("faultcube_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str) -> dict[Labels, float]:
    """The samples of one name, by their labels."""
    return {labels: value for (each, labels), value in found.items() if each == name}


def test_counts_are_told_with_their_labels() -> None:
    counters = Counters(
        requests={("/classify", 200): 3, ("/classify", 422): 1},
        records=7,
        verdicts={"normal": 6, 'a "b"\n': 1},
        rejected={"unfit": 1},
        swaps=2,
        refused=4,
    )
    found = samples(counters)
    assert of(found, "requests_total") == {
        (("route", "/classify"), ("status", "200")): 3,
        (("route", "/classify"), ("status", "422")): 1,
    }
    assert of(found, "verdicts_total") == {
        (("label", "normal"),): 6,
        (("label", 'a "b"\n'),): 1,
    }
    assert of(found, "rejected_requests_total") == {(("reason", "unfit"),): 1}
    for name, value in (("records", 7), ("bundle_swaps", 2), ("bundle_refused", 4)):
        assert of(found, f"{name}_total") == {(): value}


def test_a_histogram_tells_how_many_lie_below_each_bound() -> None:
    seconds = Histogram.of((0.5, 2))
    for value in (0.25, 0.5, 1, 100):
        seconds.observe(value)
    found = samples(Counters(seconds={"/embed": seconds}))
    route = ("route", "/embed")
    assert of(found, "request_seconds_bucket") == {
        (("le", "0.5"), route): 2,
        (("le", "2"), route): 3,
        (("le", "+Inf"), route): 4,
    }
    assert of(found, "request_seconds_count") == {(route,): 4}
    assert of(found, "request_seconds_sum") == {(route,): 101.75}


def test_what_the_processes_hold_is_summed_up_and_what_they_serve_is_told_once() -> None:
    new, old = ("toy", "b" * 16), ("toy", "a" * 16)
    found = samples(
        None,
        ProcessStatus(
            queue=1, held=10, bundle=new, revision=5, enrolled=2, store=True, writable=True
        ),
        ProcessStatus(queue=2, held=20, bundle=new, revision=4, enrolled=1, store=True),
        ProcessStatus(bundle=old, revision=5),
    )
    expected = {
        "queue_requests": 3, "held_bytes": 30, "classes_revision": 4, "enrolled_classes": 2,
        "store_up": 1, "store_writable": 1, "ready": 1,
    }  # fmt: skip
    for name, value in expected.items():
        assert of(found, name) == {(): value}, name
    assert of(found, "bundle_info") == {
        (("name", name), ("version", version)): 1 for name, version in (new, old)
    }


@pytest.mark.parametrize(
    ("stores", "told"),
    [([None, None], {}), ([True, None], {(): 1}), ([True, False], {(): 0})],
)
def test_what_a_service_needs_is_up_when_no_process_finds_it_away(
    stores: list[bool | None], told: dict[Labels, float]
) -> None:
    statuses = [ProcessStatus(store=store, writable=store, source=store) for store in stores]
    assert of(samples(None, *statuses), "store_up") == told
    assert of(samples(None, *statuses), "store_writable") == told
    assert of(samples(None, *statuses), "bundle_source_up") == told


def test_one_process_without_a_bundle_is_enough_to_be_not_ready() -> None:
    found = samples(None, ProcessStatus(bundle=("toy", "a" * 16)), ProcessStatus())
    assert of(found, "ready") == {(): 0}


def test_drift_is_told_only_when_there_is_some_to_tell() -> None:
    few = samples(drift=(499, None))
    assert (of(few, "drift"), of(few, "drift_records")) == ({}, {(): 499})
    many = samples(drift=(500, Drifts(mean=0.125, largest=0.5)))
    assert of(many, "drift") == {(("statistic", "mean"),): 0.125, (("statistic", "max"),): 0.5}


def test_the_shadow_is_told_by_labels_whatever_the_versions() -> None:
    normal, down = ("normal", "normal"), ("normal", "down")
    counters = Counters(
        shadow={("a", "b"): {normal: 3, down: 1}, ("a", "c"): {normal: 2, ("odd", "down"): 1}},
        shadow_skipped={("a", "b"): 4, ("a", "c"): 5},
    )
    found = samples(counters)
    assert of(found, "shadow_records_total") == {
        (("label", label), ("shadow_label", other)): number
        for label, other, number in [(*normal, 5), (*down, 1), ("odd", "down", 1)]
    }
    assert of(found, "shadow_agreed_total") == {(("label", "normal"),): 5, (("label", "odd"),): 0}
    assert of(found, "shadow_skipped_total") == {(): 9}


def test_incidents_and_alerts_are_told_over_all_processes() -> None:
    counters = Counters(opened={"cut": 3}, closed={"cut": 2}, alerts_sent={"webhook": 5})
    counters.add(Counters(opened={"cut": 1, "flap": 1}, alerts_failed={"webhook": 4}))
    found = samples(
        counters, ProcessStatus(incidents=2, alerts=1), ProcessStatus(incidents=1, alerts=3)
    )
    assert of(found, "incidents_opened_total") == {(("label", "cut"),): 4, (("label", "flap"),): 1}
    assert of(found, "incidents_closed_total") == {(("label", "cut"),): 2}
    assert of(found, "incidents_open") == {(): 3}
    assert of(found, "alerts_sent_total") == {(("target", "webhook"),): 5}
    assert of(found, "alerts_failed_total") == {(("target", "webhook"),): 4}
    assert of(found, "alerts_queued") == {(): 4}


def test_the_numbers_of_processes_are_those_of_all_or_of_the_newest() -> None:
    first = {"process_open_fds": 10.0, "process_start_time_seconds": 1000.0}
    second = {"process_open_fds": 20.0, "process_start_time_seconds": 2000.0}
    found = samples(
        Counters(cpu_seconds=1.5), *(ProcessStatus(process=each) for each in (first, second))
    )
    assert of(found, "process_open_fds") == {(): 30}
    assert of(found, "process_start_time_seconds") == {(): 2000}
    assert of(found, CPU_SECONDS) == {(): 1.5}
    assert not of(found, "process_max_fds")
    assert not of(samples(), CPU_SECONDS)
