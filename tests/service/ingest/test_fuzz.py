"""Whatever is sent is decoded or malformed, and nothing else."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ingest.fuzz import SEEDS, fault_of, mutated


@pytest.mark.parametrize("name", SEEDS)
def test_good_bodies_have_no_fault(name: str) -> None:
    assert fault_of(name, [seed.body for seed in SEEDS[name]]) is None


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.binary(max_size=200))
def test_damaged_bodies_have_no_fault(name: str, random: Random, noise: bytes) -> None:
    damaged = mutated(name, random)
    assert fault_of(name, [damaged, noise, SEEDS[name][0].body, damaged]) is None
