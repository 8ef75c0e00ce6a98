import dataclasses

from dqss.search.base import no_report
from dqss.search.uniform import Uniform


def pair_of(found):
    ((weight, activation),) = {(choice.weight, choice.activation) for choice in found.strategy.layers.values()}
    return weight, activation


def test_a_single_pair_of_candidates_serves_every_layer_at_the_cost_of_its_loss(problem):
    single = dataclasses.replace(problem, activation_quantizers={"mse": problem.activation_quantizers["mse"]})
    found = Uniform().search(single, no_report)
    assert pair_of(found) == ("percentile", "mse")
    assert found.calibration_loss == problem.loss(problem.uniform(0, 0))
    assert single.cost.forward_passes == 20


def test_of_several_activation_candidates_the_one_of_least_loss_goes_with_the_first_weight_candidate(problem):
    losses = [problem.loss(problem.uniform(0, activation)) for activation in range(2)]
    found = Uniform().search(problem, no_report)
    assert found.calibration_loss == min(losses)
    assert pair_of(found) == ("percentile", ["mse", "minmax"][losses.index(min(losses))])
