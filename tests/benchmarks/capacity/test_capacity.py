from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.__main__ import FLEETS, main
from benchmarks.capacity.plan import BUSY, FIELDS, Fleet, Plan
from benchmarks.capacity.unit_costs import COSTS, LIMITS, WIRES, Cost

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docker" / "kubernetes" / "capacity.md"
ALL = [
    *COSTS.values(),
    *(c for w in WIRES.values() for c in (w.size, w.decoded, w.assembled, w.fresh)),
]
plans = st.builds(
    Plan,
    st.builds(Fleet, st.integers(1, 10**7)),
    st.sampled_from([*WIRES.values()]),
)


@pytest.mark.parametrize("cost", ALL, ids=lambda cost: cost.what)
def test_every_unit_cost_stands_in_the_page_that_it_names(cost: Cost) -> None:
    # Lines of a page are broken anywhere.
    assert " ".join(cost.line.split()) in " ".join((ROOT / cost.page).read_text().split())
    assert cost.written in re.findall(r"[\d.,]*\d", cost.line)
    assert f"{cost.value:,.0f}" == cost.written


def test_the_page_has_the_tables_as_they_are_worked_out_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(core=None, gib=0.0)
    assert PAGE.read_text().endswith(f"\n{capsys.readouterr().out}")


def test_prices_are_asked_of_who_orders(capsys: pytest.CaptureFixture[str]) -> None:
    main(core=10.0, gib=0.0)
    (row,) = re.findall(r"\| ingestion \| (.*) \|", capsys.readouterr().out)
    processes = [Plan(fleet, WIRES["telegraf"]).processes for fleet in FLEETS]
    assert row.split(" | ") == [f"{10 * number:,}" for number in processes]


@given(plan=plans)
def test_no_process_gets_more_than_it_takes(plan: Plan) -> None:
    assert plan.fleet.series == plan.fleet.devices * FIELDS
    assert plan.fleet.series <= plan.processes * LIMITS["series"]
    assert plan.fleet.devices <= plan.processes * LIMITS["devices"]
    assert plan.cores <= plan.processes * BUSY
    assert plan.processes in plan.wants.values()
    fewer = plan.processes - 1
    assert any(number > fewer for number in plan.wants.values()), "one less would do"


@given(plan=plans)
def test_more_devices_never_need_less(plan: Plan) -> None:
    more = Plan(Fleet(plan.fleet.devices + 1000), plan.wire)
    for name in ("cores", "cores_of_lone_bodies", "processes", "memory", "network"):
        assert getattr(more, name) >= getattr(plan, name), name


@given(plan=plans)
def test_points_that_all_get_cost_more_than_points_that_are_routed(plan: Plan) -> None:
    assert plan.cores_of_shares >= plan.cores / plan.processes
    assert (plan.foreign == 0) is (plan.processes == 1)


def test_a_journal_that_fills_quickly_makes_checkpoints_come_sooner() -> None:
    small, large = (Plan(Fleet(devices), WIRES["telegraf"]) for devices in (1000, 40_000))
    assert small.pause == LIMITS["checkpoint_seconds"]
    assert large.processes == 1
    assert large.pause == pytest.approx(LIMITS["checkpoint_bytes"] / large.network)
    assert large.pause < small.pause
