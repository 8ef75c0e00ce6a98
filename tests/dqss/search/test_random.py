import pytest

from dqss.search.base import no_report
from dqss.search.random import Random


def test_it_keeps_the_best_of_its_draws(problem):
    found = Random(draws=6).search(problem, no_report)
    assert len(found.curves["loss"]) == 6
    assert found.calibration_loss == min(found.curves["loss"])
    # Of three batches of 4, 4 and 2 images at least the first is run for each.
    assert 10 + 5 * 4 <= problem.cost.forward_passes <= 6 * 10


def test_more_draws_go_on_where_fewer_end(problem):
    few = Random(draws=3).search(problem.fresh(7), no_report)
    more = Random(draws=6).search(problem.fresh(7), no_report)
    assert len(more.curves["loss"]) == 6
    assert more.calibration_loss <= few.calibration_loss


def test_every_pair_is_drawn_for_every_layer_evenly(problem):
    drawn = []
    counting = problem.fresh(0)
    object.__setattr__(counting, "strategy_loss", lambda picks, position: (position == 0 and drawn.append(picks)) or 1)
    Random(draws=600).search(counting, no_report)
    for layer in range(3):
        for pair in ((weight, activation) for weight in range(3) for activation in range(2)):
            # 100 expected; five standard deviations are 46.
            assert abs(sum(picks[layer] == pair for picks in drawn) - 100) < 46


def test_fewer_than_one_draw_is_refused():
    with pytest.raises(ValueError, match=r"draws: 0 is not allowed\. Give at least 1"):
        Random(draws=0)
