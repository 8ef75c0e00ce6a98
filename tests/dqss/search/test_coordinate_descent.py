from itertools import product

import pytest

from dqss.search.base import no_report
from dqss.search.coordinate_descent import CoordinateDescent


def posed(problem, loss):
    """The problem with another loss, alike for all batches, and the strategies that were asked for."""
    asked = []

    def counting(picks, position):
        if position == 0:
            asked.append(picks)
        return loss(picks)

    fresh = problem.fresh(0)
    object.__setattr__(fresh, "strategy_loss", counting)
    return fresh, asked


def test_a_separable_loss_is_solved_in_one_sweep_and_another_is_not_begun(problem):
    # Weight (of 3) and activation (of 2) candidates of the three layers; the optimum is 2 1, 0 0, 1 1.
    table = [([3, 2, 1], [5, 0]), ([0, 1, 2], [0, 9]), ([2, 0, 2], [7, 0])]
    fresh, asked = posed(problem, lambda picks: sum(w[i] + a[j] for (w, a), (i, j) in zip(table, picks, strict=True)))
    found = CoordinateDescent().search(fresh, no_report)
    assert found.strategy == problem.strategy(((2, 1), (0, 0), (1, 1)))
    assert found.calibration_loss == pytest.approx(1)
    # Six uniform pairs; three layers with 2 + 1 other candidates, and once more up to the last change.
    assert 6 + 9 < len(asked) <= 6 + 2 * 9


def test_one_sweep_does_what_the_rule_says_by_hand(problem):
    # Lower where neighbours differ, so each change depends on those before it. Best uniform pair: the first of equals.
    def loss(picks):
        return sum(picks[i][0] == picks[i + 1][0] for i in range(2)) + 0.5 * picks[0][1]

    fresh, asked = posed(problem, loss)
    found = CoordinateDescent(sweeps=1).search(fresh, no_report)
    # Layer 0: weight 1 breaks the first tie, 2 is no better, activation 1 is worse; layer 1: weight 1 is as bad, 2
    # breaks the second tie; layer 2 has nothing to gain.
    assert found.strategy == problem.strategy(((1, 0), (2, 0), (0, 0)))
    assert found.curves["loss"] == pytest.approx([2, 1, 0])
    assert len(asked) == 6 + 9


def test_no_single_change_of_the_result_has_a_lower_loss(problem):
    found = CoordinateDescent().search(problem, no_report)
    weights, activations = list(problem.weight_quantizers), list(problem.activation_quantizers)
    picks = [(weights.index(c.weight), activations.index(c.activation)) for c in found.strategy.layers.values()]
    assert found.calibration_loss == problem.loss(tuple(picks))
    for layer, pair in product(range(3), product(range(3), range(2))):
        if pair[0] == picks[layer][0] or pair[1] == picks[layer][1]:
            changed = (*picks[:layer], pair, *picks[layer + 1 :])
            assert problem.loss(changed) >= found.calibration_loss


def test_no_sweep_is_refused():
    with pytest.raises(ValueError, match=r"sweeps: 0 is not allowed\. Give at least 1"):
        CoordinateDescent(sweeps=0)
