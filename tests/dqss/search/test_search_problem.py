import math

import pytest
import torch

from dqss.inputs import call
from dqss.ptq import quantize
from dqss.spec import Bits
from dqss.strategy import Choice


def test_the_loss_of_picks_is_that_of_the_quantized_model_over_all_images(problem):
    picks = ((2, 0), (0, 1), (1, 1))
    model = quantize(problem.prepared, problem.calibration, problem.strategy(picks))
    losses = [
        problem.output_loss(call(model, batch), target).item() * len(target)
        for batch, target in zip(problem.batches, problem.calibration.targets, strict=True)
    ]
    assert problem.loss(picks) == pytest.approx(sum(losses) / 10, rel=1e-6)


def test_a_loss_above_the_bound_is_given_up_and_one_below_it_is_exact(problem):
    picks = ((2, 0), (0, 1), (1, 1))
    loss = problem.loss(picks)
    problem.cost.forward_passes = 0
    assert problem.loss(picks, bound=loss) == loss
    assert problem.cost.forward_passes == 10
    assert problem.loss(picks, bound=math.nextafter(loss, 0)) == loss
    problem.cost.forward_passes = 0
    assert 1e-9 < problem.loss(picks, bound=1e-9) < loss
    assert problem.cost.forward_passes == len(problem.batches[0])


def test_picks_are_positions_in_the_tables_of_candidates(problem):
    strategy = problem.strategy(((2, 0), (0, 1), (1, 1)))
    assert strategy.layers == {
        "stem": Choice("mse", "mse", Bits(3, 3)),
        "depthwise": Choice("percentile", "minmax", Bits(3, 3)),
        "head": Choice("minmax", "minmax", Bits(3, 3)),
    }


def test_a_uniform_strategy_has_the_same_pair_everywhere(problem):
    assert problem.uniform(2, 1) == ((2, 1), (2, 1), (2, 1))


def test_picks_for_another_number_of_layers_are_refused(problem):
    with pytest.raises(ValueError, match="shorter"):
        problem.loss(((0, 0),))


def test_images_forward_count_once_and_backward_twice(problem):
    problem.loss(problem.uniform(0, 0))
    assert problem.cost.forward_passes == 10
    fresh = problem.fresh(seed=4)
    mixing = torch.full((3,), 1 / 3, requires_grad=True)
    for layer in fresh.layers.values():
        layer.mix(mixing, torch.tensor([0.5, 0.5]))
    fresh.batch_loss(2).backward()
    assert fresh.cost.forward_passes == 2 * 3
    assert (fresh.seed, problem.seed) == (4, 0)
    assert problem.cost.forward_passes == 10


def test_the_loss_of_a_batch_follows_the_mixing_weights(problem):
    """The gradient to a mixing weight is the slope of the loss, by central differences in the last layer."""
    mixing = torch.tensor([0.2, 0.5, 0.3])

    def loss(weights: torch.Tensor) -> torch.Tensor:
        for layer in problem.layers.values():
            layer.mix(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.4, 0.6]))
        problem.layers["head"].mix(weights, torch.tensor([0.4, 0.6]))
        return problem.batch_loss(0)

    (gradient,) = torch.autograd.grad(loss(mixing.requires_grad_()), mixing)
    step = 1e-2
    for position in range(3):
        nudge = step * torch.eye(3)[position]
        slope = (loss(mixing.detach() + nudge) - loss(mixing.detach() - nudge)).item() / (2 * step)
        assert gradient[position].item() == pytest.approx(slope, rel=2e-2, abs=1e-4)
