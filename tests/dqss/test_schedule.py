import math

import pytest

from dqss.registry import UnknownNameError
from dqss.schedule import Rates, Schedule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps: 0 is not allowed\. Give a whole number, at least 1\."),
        # Half a step more than the batches would never come.
        ({"steps": 10.5}, r"steps: 10\.5 is not allowed\. Give a whole number"),
        ({"steps": math.inf}, r"steps: inf is not allowed\."),
        ({"warm_up": -0.1}, r"warm_up: -0\.1 is not allowed\. Give a number from 0 to below 1\."),
        ({"warm_up": 1.0}, r"warm_up: 1\.0 is not allowed\."),
        ({"warm_up": math.nan}, r"warm_up: nan is not allowed\."),
        (
            {"warm_up": 0.1, "search": 0.0},
            r"search: 0\.0 is not allowed\. Give a number above 0 that is, with warm_up \(0\.1\)",
        ),
        ({"warm_up": 0.1, "search": 0.91}, r"search: 0\.91 is not allowed\."),
        ({"search": math.nan}, r"search: nan is not allowed\."),
        ({"cold": 2.0}, r"cold: 2\.0 is not allowed\. Give a number above 0, at most warm \(1\.0\)\."),
        ({"warm": math.inf}, r"warm: inf is not allowed\. Give a finite number\."),
        ({"cold": 0.0}, r"cold: 0\.0 is not allowed\."),
    ],
)
def test_a_phase_that_cannot_be_is_named_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**({"steps": 10} | options))


def test_an_unknown_relaxation_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"relaxation: 'gumble' is not allowed\. Did you mean 'gumbel'\?"):
        Schedule(steps=10, relaxation="gumble")


def test_what_follows_the_search_is_one_of_two_and_has_steps():
    with pytest.raises(UnknownNameError, match=r"then: 'restrat' is not allowed\. Did you mean 'restart'\?"):
        Schedule(steps=10, then="restrat")
    with pytest.raises(ValueError, match=r"then: 'restart' is not allowed where warm_up \(0\.5\) and search"):
        Schedule(steps=10, warm_up=0.5, search=0.5, then="restart")


@pytest.mark.parametrize("steps", [5, 50])
def test_with_a_restart_the_rates_are_as_before_and_then_begin_anew(steps):
    schedule = Schedule(steps, then="restart")
    shares = [schedule.share_of_rates(step) for step in range(steps)]
    left = Schedule(steps - schedule.end)
    assert shares[: schedule.end] == [Schedule(steps).share_of_rates(step) for step in range(schedule.end)]
    assert shares[schedule.end :] == [left.share_of_rates(step) for step in range(steps - schedule.end)]


@pytest.mark.parametrize("rise", [-0.1, 1.0, math.nan])
def test_a_rise_that_cannot_be_is_named(rise):
    with pytest.raises(ValueError, match=rf"rise: {rise} is not allowed\. Give a number from 0 to below 1\."):
        Schedule(steps=10, rise=rise)


@pytest.mark.parametrize("name", ["network", "quantizers", "alpha"])
@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_cannot_be_is_named(name, rate):
    with pytest.raises(ValueError, match=rf"{name}: {rate} is not allowed\. Give a number above 0\."):
        Rates(**{name: rate})


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(("warm_up", "search"), [(0.0, 1.0), (0.2, 0.4), (0.9, 0.1), (0.7, 0.3), (0.0, 0.01)])
def test_phases_follow_one_another_within_the_steps(steps, warm_up, search):
    schedule = Schedule(steps, warm_up, search)
    assert 0 <= schedule.begin <= schedule.end <= steps
    assert warm_up + search < 1 or schedule.end == steps


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_temperatures_fall(steps):
    schedule = Schedule(steps)
    temperatures = [schedule.temperature(step) for step in range(steps)]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == schedule.warm


@pytest.mark.parametrize("steps", [1, 5, 50, 63])
@pytest.mark.parametrize("rise", [0.0, 0.1, 0.3, 0.9])
def test_rates_rise_once_and_fall_once_and_are_never_nil(steps, rise):
    schedule = Schedule(steps, rise=rise)
    shares = [schedule.share_of_rates(step) for step in range(steps)]
    top = shares.index(max(shares))
    assert top <= math.ceil(rise * steps)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert all(0 < share <= 1 for share in shares)
    assert rise > 0 or shares[0] == 1
