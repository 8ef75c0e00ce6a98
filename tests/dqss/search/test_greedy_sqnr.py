import torch

from dqss.functional import fake_quantize
from dqss.search.base import no_report
from dqss.search.greedy_sqnr import GreedySqnr
from dqss.sqnr import decibels


def test_every_layer_gets_the_pair_of_the_highest_sqnr_over_the_tensors_themselves(problem):
    inputs = {name: [] for name in problem.layers}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs[name].append(given[0].flatten()))
        for name, layer in problem.prepared.layers.items()
    ]
    for batch in problem.batches:
        problem.prepared.model(batch)
    for hook in hooks:
        hook.remove()

    def best(tensor, summary, quantizers, spec):
        def ratio(name):
            error = fake_quantize(tensor, quantizers[name].qparams(summary, spec)) - tensor
            return decibels(tensor.square().sum().item(), error.square().sum().item())

        return max(quantizers, key=ratio)

    found = GreedySqnr().search(problem, no_report)
    for name, choice in found.strategy.layers.items():
        specs, calibration = problem.prepared.specs[name], problem.calibration
        weight = problem.prepared.layers[name].weight
        assert choice.weight == best(weight, calibration.weights[name], problem.weight_quantizers, specs.weight)
        assert choice.activation == best(
            torch.cat(inputs[name]), calibration.activations[name], problem.activation_quantizers, specs.activation
        )


def test_it_runs_nothing_but_the_final_loss(problem):
    GreedySqnr().search(problem, no_report)
    assert problem.cost.forward_passes == 10
