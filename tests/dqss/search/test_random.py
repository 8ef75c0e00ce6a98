from itertools import product

import pytest

from dqss.search.base import no_report
from dqss.search.random import Random


def test_it_keeps_the_best_of_its_draws(problem):
    found = Random(images=60).search(problem, no_report)
    assert found.calibration_loss == min(found.curves["loss"])
    # Ten images in batches of 4, 4 and 2: all for the first, at least one batch for each, ten at most for the last.
    assert 6 <= len(found.curves["loss"]) <= 1 + 60 // 4
    assert 60 <= problem.cost.forward_passes < 70


def test_what_it_finds_has_the_loss_that_it_says(problem):
    found = Random(images=100).search(problem, no_report)
    weights, activations = list(problem.weight_quantizers), list(problem.activation_quantizers)
    picks = tuple((weights.index(c.weight), activations.index(c.activation)) for c in found.strategy.layers.values())
    assert problem.loss(picks) == found.calibration_loss


def test_more_images_go_on_where_fewer_end(problem):
    few = Random(images=40).search(problem.fresh(7), no_report)
    more = Random(images=90).search(problem.fresh(7), no_report)
    assert len(more.curves["loss"]) > len(few.curves["loss"])
    assert more.curves["loss"][: len(few.curves["loss"])] == few.curves["loss"]
    assert more.calibration_loss <= few.calibration_loss


def test_every_pair_is_drawn_for_every_layer_evenly(problem):
    drawn = []

    def loss(picks, bound):
        drawn.append(picks)
        problem.cost.forward_passes += 1
        return 1.0

    object.__setattr__(problem, "loss", loss)
    Random(images=100).search(problem, no_report)
    assert len(set(drawn)) == len(drawn) == 100
    for layer in range(3):
        for pair in ((weight, activation) for weight in range(3) for activation in range(2)):
            # A sixth expected; of 100 of 216 strategies five standard deviations are 13.7.
            assert abs(sum(picks[layer] == pair for picks in drawn) - 100 / 6) < 13.7


def test_where_there_are_few_strategies_each_is_tried_once(problem):
    found = Random(images=100_000).search(problem, no_report)
    assert len(found.curves["loss"]) == (3 * 2) ** 3
    every = product(product(range(3), range(2)), repeat=3)
    assert found.calibration_loss == min(problem.loss(picks) for picks in every)


def test_a_draw_without_a_finite_loss_is_still_a_strategy(problem):
    object.__setattr__(
        problem, "strategy_loss", lambda picks, position: setattr(problem.cost, "forward_passes", 1) or float("inf")
    )
    found = Random(images=1).search(problem, no_report)
    assert found.calibration_loss == float("inf")
    assert list(found.strategy.layers) == list(problem.layers)


def test_fewer_than_one_image_is_refused():
    with pytest.raises(ValueError, match=r"images: 0 is not allowed\. Give at least 1"):
        Random(images=0)
