from itertools import product

import pytest

from dqss.search.base import no_report
from dqss.search.race import race


def every_strategy(problem):
    return [tuple(zip(w, a, strict=True)) for w in product(range(3), repeat=3) for a in product(range(2), repeat=3)]


def test_the_winner_is_the_best_with_its_exact_loss_and_nobody_is_told_above_its_own(problem):
    strategies = every_strategy(problem)
    exact = [problem.loss(picks) for picks in strategies]
    problem.cost.forward_passes = 0
    told = race(problem, strategies, no_report)
    best = min(range(len(exact)), key=exact.__getitem__)
    assert min(range(len(told)), key=told.__getitem__) == best
    assert told[best] == pytest.approx(exact[best], rel=1e-9)
    for mine, true in zip(told, exact, strict=True):
        assert told[best] <= mine <= true * (1 + 1e-9)
    # Every strategy runs the first batch of four images; few run all ten.
    assert 4 * len(strategies) <= problem.cost.forward_passes < 6 * len(strategies)


def test_no_batch_is_run_that_a_sum_below_the_best_loss_did_not_ask_for(problem):
    strategies = every_strategy(problem)
    by_batch = [[problem.strategy_loss(picks, batch) for batch in range(3)] for picks in strategies]
    sizes = (4, 4, 2)
    best = min(sum(loss * size / 10 for loss, size in zip(losses, sizes, strict=True)) for losses in by_batch)
    expected = 0
    for losses in by_batch:
        total = 0.0
        for loss, size in zip(losses, sizes, strict=True):
            if total < best:
                expected += size
            total += loss * size / 10
    problem.cost.forward_passes = 0
    race(problem, strategies, no_report)
    assert problem.cost.forward_passes == expected


def test_a_strategy_alone_runs_to_its_end(problem):
    told = []
    losses = race(problem, [problem.uniform(0, 0)], lambda *stage: told.append(stage))
    assert losses == [pytest.approx(problem.loss(problem.uniform(0, 0)))]
    assert told == [("search", done, 3) for done in (1, 2, 3)]
