import pytest
import torch
from torch import nn

from dqss.calibrate import calibrate
from dqss.functional import fake_quantize
from dqss.graph import prepare
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.search.base import no_report
from dqss.search.fisher import Fisher, fisher_scores
from dqss.spec import PROTOCOLS, Bits


def linear_problem(outputs: int, images: int, loss: str):
    """One linear layer, of whose Fisher information there is a formula."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, outputs))
        x = torch.randn(images, 3)
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits(3, 3))
    batches = list(x.split(16))
    candidates = {name: QUANTIZERS.create(name) for name in ("minmax", "mse")}
    return network[0], x, pose(prepared, calibrate(prepared, batches, no_report), batches, candidates, candidates, loss)


@pytest.mark.parametrize(("loss", "outputs"), [("kl", 4), ("mse", 4), ("mse", 1)])
def test_scores_are_those_of_the_expected_fisher_information(loss, outputs):
    """Of y = Wx that of W_ki is H_kk x_i^2 and that of x_i is w_i'Hw_i; H = diag(p) - pp' for classes, else 1."""
    layer, x, problem = linear_problem(outputs, 4096, loss)
    with torch.no_grad():
        p = layer(x).softmax(1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None] if loss == "kl" else torch.eye(outputs)[None]
        of_weight = torch.einsum("bk,bi->ki", hessian.diagonal(dim1=1, dim2=2).expand(len(x), -1), x.square())
        of_input = torch.einsum("ki,bkl,li->bi", layer.weight, hessian.expand(len(x), -1, -1), layer.weight)
    weights, activations = fisher_scores(problem, no_report)
    candidates = problem.layers["0"]
    for told, quantized in zip(weights["0"], candidates.weights, strict=True):
        expected = (of_weight * (quantized - layer.weight).square()).sum().item()
        # One draw for each of 4,096 images, added up in batches of 16: 256 squares per weight.
        assert told.item() == pytest.approx(expected, rel=0.2)
    for told, grid in zip(activations["0"], candidates.activations, strict=True):
        expected = (of_input * (fake_quantize(x, grid) - x).square()).sum().item()
        assert told.item() == pytest.approx(expected, rel=0.1)


def test_the_pair_with_the_least_scores_is_chosen_in_every_layer(problem):
    weights, activations = fisher_scores(problem.fresh(3), no_report)
    found = Fisher().search(problem.fresh(3), no_report)
    picks = tuple((weights[name].argmin().item(), activations[name].argmin().item()) for name in problem.layers)
    assert found.strategy == problem.strategy(picks)
    assert found.calibration_loss == problem.loss(picks)


def test_a_backward_pass_counts_as_two(problem):
    Fisher().search(problem, no_report)
    assert problem.cost.forward_passes == 3 * 10 + 10


def test_a_layer_used_twice_gathers_the_scores_of_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prepared = prepare(Twice(), PROTOCOLS["all-layers"], Bits(3, 3))
        batches = [torch.randn(8, 3)]
    candidates = {name: QUANTIZERS.create(name) for name in ("minmax", "mse")}
    problem = pose(prepared, calibrate(prepared, batches, no_report), batches, candidates, candidates, "kl")
    with torch.no_grad():
        _, activations = fisher_scores(problem, no_report)
    assert (activations["layer"] > 0).all()
    assert not any(parameter.requires_grad for parameter in prepared.model.parameters())
