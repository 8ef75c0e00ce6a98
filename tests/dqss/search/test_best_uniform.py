from itertools import product

import pytest

from dqss.inputs import call
from dqss.ptq import quantize
from dqss.search.base import no_report
from dqss.search.best_uniform import BestUniform
from dqss.strategy import Choice, Strategy


def test_it_finds_the_least_loss_of_all_pairs(problem):
    prepared = problem.prepared

    def loss(weight: str, activation: str) -> float:
        choices = {name: Choice(weight, activation, prepared.bits) for name in prepared.layers}
        model = quantize(prepared, problem.calibration, Strategy(choices, prepared.bits, prepared.protocol))
        parts = [
            problem.output_loss(call(model, batch), target).item() * len(target)
            for batch, target in zip(problem.batches, problem.calibration.targets, strict=True)
        ]
        return sum(parts) / 10

    losses = {pair: loss(*pair) for pair in product(problem.weight_quantizers, problem.activation_quantizers)}
    found = BestUniform().search(problem, no_report)
    best = min(losses, key=losses.__getitem__)
    assert {(choice.weight, choice.activation) for choice in found.strategy.layers.values()} == {best}
    assert found.calibration_loss == pytest.approx(losses[best], rel=1e-6)
    assert len(set(losses.values())) > 1
    # What was given up lies between the best and its own loss, and cost less than running it to the end.
    for told, true in zip(found.curves["loss"], losses.values(), strict=True):
        assert found.calibration_loss * (1 - 1e-6) <= told <= true * (1 + 1e-6)
    assert 10 <= problem.cost.forward_passes < 3 * 2 * 10
