from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fitting.calibration import HeldOut
from training.fitting.prior import WEIGHTS, PriorChoice, choose_prior, shares_of

SHARES = np.array([0.9, 0.08, 0.02])


def held_out(rare_from: float) -> HeldOut:
    """900 good records, 80 of a fault and 20 of a rare one, this far from the centroid of good."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [900, 80, 20])
    distances = np.full((1000, 3), 0.5)
    # Good traffic and the common fault overlap, so that the temperature is not next to nothing.
    distances[labels < 2, :2] = random.uniform(0.01, 0.05, (980, 2))
    distances[np.arange(1000), labels] = random.uniform(0.0, 0.02, 1000)
    distances[labels == 2, 0] = rare_from
    return HeldOut(distances, labels.astype(np.int64))


@given(
    st.lists(st.floats(1e-4, 1), min_size=2, max_size=8),
    st.sampled_from(WEIGHTS),
)
def test_shares_add_up_and_keep_their_order_with_any_weight(
    numbers: list[float], weight: float
) -> None:
    shares = np.array(numbers) / np.sum(numbers)
    weighted = PriorChoice(weight, "").apply(shares)
    assert weighted is not None
    assert weighted.sum() == pytest.approx(1)
    # Two that differ in their last digit may become equal.
    assert (np.diff(weighted[np.argsort(shares)]) >= -1e-15).all()
    expected = weight * (np.log(shares) - np.log(shares[0]))
    assert np.log(weighted) - np.log(weighted[0]) == pytest.approx(expected, abs=1e-9)
    assert weight < 1 or (weighted == shares).all()


def test_no_weight_is_no_prior() -> None:
    assert PriorChoice(0.0, "").apply(SHARES) is None


def test_the_whole_prior_is_taken_where_it_costs_no_class() -> None:
    choice = choose_prior(held_out(rare_from=0.3), SHARES, "auto")
    assert choice.weight == 1
    assert "counts in full: macro-F1 on records left out is 0.939 with 1, 0.9" in choice.note


def test_less_is_taken_where_a_rare_class_would_be_given_up() -> None:
    choice = choose_prior(held_out(rare_from=0.02), SHARES, "auto")
    assert choice.weight < 1
    assert choice.note.startswith("the logarithm of a class's share counts by 0.25: macro-F1 on")


def test_less_is_not_taken_for_next_to_nothing() -> None:
    choice = choose_prior(held_out(rare_from=0.027), SHARES, "auto")
    assert "0.927 with 1, 0.929 with 0.5" in choice.note
    assert choice.weight == 1


@pytest.mark.parametrize(("prior", "weight"), [(True, 1), (False, 0)])
def test_a_recipe_may_decide(prior: bool, weight: float) -> None:
    assert choose_prior(held_out(rare_from=0.02), SHARES, prior) == PriorChoice(weight, "")


def test_a_class_without_a_held_out_record_changes_nothing() -> None:
    known = held_out(rare_from=0.3)
    kept = known.labels != 2
    rest = HeldOut(known.distances[kept], known.labels[kept])
    assert choose_prior(rest, SHARES, "auto").weight == 1


def test_shares_count_records_or_take_the_word_of_the_operator() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    assert shares_of(labels).tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert shares_of(labels, 0.01).tolist() == pytest.approx([0.99, 0.006, 0.004])


def test_classes_of_a_sample_count_as_they_do_in_the_table() -> None:
    labels = np.array([0, 0, 1, 1])
    assert shares_of(labels, weights=[9, 1, 1]).tolist() == pytest.approx([0.9, 0.1])
    # A share of faults that is given says more.
    assert shares_of(labels, 0.2, [9, 1, 1]).tolist() == pytest.approx([0.8, 0.2])
