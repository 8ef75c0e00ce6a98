"""The axis of the gain chart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.statistics import Gain, Interval
from leaderboard.views.chart import MARGIN, WIDTH, axis_for, round_ticks

numbers = st.floats(-1e4, 1e4).filter(lambda value: value == 0 or abs(value) > 1e-4)


@given(st.lists(st.tuples(numbers, numbers, numbers).map(sorted), max_size=5))
def test_everything_and_zero_lie_on_the_axis(triples):
    axis = axis_for([None, *(Gain(mid, Interval(low, high), 4) for low, mid, high in triples)])
    for value in (0.0, *(value for triple in triples for value in triple)):
        assert MARGIN - 0.01 <= axis.x(value) <= WIDTH - MARGIN + 0.01
    assert 0.0 in axis.ticks
    assert 2 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))


def test_ticks_are_round_and_as_precise_as_their_labels():
    axis = axis_for([Gain(0.02, Interval(-0.03, 0.07), 4)])
    assert axis.ticks == (-0.04, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08)
    assert axis.digits == 2
    assert axis.x(0.02) == pytest.approx((axis.x(0.0) + axis.x(0.04)) / 2, abs=0.01)


@pytest.mark.parametrize(
    "values", [(1000.0, 999.9999999999999), (3e-13, 7e-13), (0.0, 0.0), (-5.0, -5.0), (1e12, 1e12 + 1)]
)
def test_round_ticks_are_apart_and_hold_values_however_near_or_small(values):
    ticks, _ = round_ticks(min(values), max(values))
    assert list(ticks) == sorted(set(ticks))
    assert len(ticks) > 1
    assert ticks[0] <= min(values) + 1e-9 * abs(min(values))
    assert ticks[-1] >= max(values) - 1e-9 * abs(max(values))
