import itertools
import random

import pytest

from benchmarks.pool import Job, ordered
from benchmarks.simulation import Faults, lower_bound, makespan, simulate


def drawn(count, seed=0):
    """Costs whose longest is some twenty times their median, as those of models of several sizes are."""
    generator = random.Random(seed)
    return [generator.lognormvariate(5.3, 0.8) for _ in range(count)]


def longest_first(costs):
    return [job.seconds for job in ordered(Job(cell, cost) for cell, cost in enumerate(costs))]


def test_the_makespan_of_a_schedule_worked_out_by_hand():
    # Graham's example, where longest first is worst: 5 and 3 + 3 | 5 and 4 | 4 and 3, with 3 on top; 9 were possible.
    assert makespan([5, 5, 4, 4, 3, 3, 3], workers=3) == 11
    assert makespan([2, 2, 3], workers=2) == 5
    assert makespan([], workers=4) == 0
    assert makespan([1, 2], workers=9) == 2


@pytest.mark.parametrize("seed", range(20))
def test_longest_first_keeps_within_grahams_bound_of_the_optimum(seed):
    generator = random.Random(seed)
    costs, workers = [generator.randint(1, 20) for _ in range(7)], 3
    optimum = min(
        max(sum(cost for cost, at in zip(costs, places, strict=True) if at == worker) for worker in range(workers))
        for places in itertools.product(range(workers), repeat=len(costs))
    )
    found = makespan(longest_first(costs), workers)
    assert lower_bound(costs, workers, [1] * len(costs)) <= optimum <= found
    assert found <= (4 / 3 - 1 / (3 * workers)) * optimum + 1e-9


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match=r"^workers: 0 is not allowed"):
        makespan([1.0], workers=0)


@pytest.mark.parametrize("workers", [1, 3, 40, 300])
def test_without_failures_the_pool_takes_the_time_that_was_estimated(workers):
    costs = drawn(250)
    run = simulate(costs, workers)
    assert run.makespan == pytest.approx(makespan(longest_first(costs), workers), rel=1e-12)
    assert run.bound == pytest.approx(max(sum(costs) / workers, max(costs)))
    assert (run.failures, run.repeated, run.hopeless, run.late, run.lost, run.doubled) == (0,) * 6


def test_a_lost_worker_costs_its_lease_and_the_time_of_its_cell():
    # The only worker fails once at a time that the seed gives, and its cell begins anew once it is back.
    for seed in range(20):
        run = simulate([1000.0], 1, faults=Faults(per_hour=1.0, restart=50.0), lease=90.0, seed=seed)
        failure = run.makespan - 1000.0 - 50.0  # when it failed, where it did once
        assert (run.failures == 0) == (run.makespan == 1000.0)
        if run.failures == 1:
            assert 0 < failure < 1000.0
            assert run.repeated == 1
        assert (run.lost, run.doubled) == (0, 0)


def test_workers_fail_as_often_as_they_are_told_to():
    runs = [simulate([3600.0] * 400, 100, faults=Faults(per_hour=0.5, restart=0.1), seed=seed) for seed in range(10)]
    # Failures are Poisson: per hour and worker 0.5, over all worker-hours of the ten runs.
    expected = sum(0.5 * 100 * run.makespan / 3600 for run in runs)
    found = sum(run.failures for run in runs)
    # At the end some workers have left, and do not fail any more.
    assert 0.7 * expected < found < expected + 4 * expected**0.5


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_to_workers_every_cell_is_done_once(seed):
    generator = random.Random(seed)
    count, workers = generator.randint(1, 200), generator.randint(4, 30)
    faults = Faults(per_hour=generator.choice([1.0, 5.0]), restart=generator.choice([1.0, 100.0]), cut_off=0.5)
    widths = [generator.choice([1, 1, 1, 2, 4]) for _ in range(count)]
    run = simulate(drawn(count, seed), workers, faults=faults, widths=widths, lease=generator.choice([150.0, 400.0]))
    assert (run.lost, run.doubled) == (0, 0)


def test_workers_that_come_back_late_with_a_cell_are_there_among_those_runs():
    run = simulate([500.0] * 300, 20, faults=Faults(per_hour=4.0, cut_off=1.0), lease=30.0)
    assert run.late > 0
    assert (run.lost, run.doubled) == (0, 0)


def test_wide_cells_take_their_turn_and_leave_no_worker_idle_where_they_fit():
    assert simulate([10.0, 10.0, 10.0, 10.0], 4, widths=[2, 4, 2, 1]).makespan == 30.0
    run = simulate(drawn(4000), 64, widths=[8 if cell % 20 == 0 else 1 for cell in range(4000)])
    assert run.makespan < 1.05 * run.bound
    assert (run.lost, run.doubled) == (0, 0)


@pytest.mark.slow
def test_a_hundred_thousand_cells_on_a_thousand_failing_workers_end_near_the_lower_bound():
    for cut_off in (0.0, 0.3):
        run = simulate(drawn(100_000), 1000, faults=Faults(per_hour=0.01, cut_off=cut_off))
        assert run.makespan < 1.05 * run.bound
        assert run.failures > 0
        assert (run.lost, run.doubled) == (0, 0)
