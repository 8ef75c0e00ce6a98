import math

import pytest
import torch

from dqss.matching import OUTPUT_LOSSES, kl, mse, output_loss
from dqss.registry import UnknownNameError


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_mse_by_hand():
    # Squared distances 1, 0, 0, 4; the target's mean square is 14.
    target = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    output = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    assert mse(output, target).item() == pytest.approx((5 / 4) / 14)


def test_mse_of_zeros_is_one():
    target = random(3, 4, 5)
    assert mse(torch.zeros_like(target), target).item() == pytest.approx(1)


def test_kl_by_hand():
    # (1/2, 1/2) against (3/4, 1/4), and no difference.
    target = torch.tensor([[0.0, 0.0], [1.0, 7.0]])
    output = torch.tensor([[math.log(3), 0.0], [2.0, 8.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl(output, target).item() == pytest.approx(expected / 2)


@pytest.mark.parametrize("name", OUTPUT_LOSSES)
def test_every_loss_is_nil_at_the_target_and_positive_elsewhere(name):
    target = random(4, 3)
    assert OUTPUT_LOSSES[name](target, target).item() == pytest.approx(0, abs=1e-7)
    assert OUTPUT_LOSSES[name](target.flip(1), target).item() > 0


@pytest.mark.parametrize("name", OUTPUT_LOSSES)
def test_every_loss_of_a_target_that_never_varies_is_finite_at_the_target(name):
    target = torch.ones(4, 3)
    assert OUTPUT_LOSSES[name](target, target).item() == 0


@pytest.mark.parametrize(("shape", "loss"), [((4, 3), kl), ((4, 1), mse), ((4,), mse), ((4, 3, 2), mse)])
def test_class_scores_are_compared_by_kl_anything_else_by_mse(shape, loss):
    assert output_loss(None, torch.zeros(shape)) is loss


def test_a_loss_by_name_is_taken_whatever_the_target():
    assert output_loss("mse", torch.zeros(4, 3)) is mse


def test_an_unknown_loss_is_an_error_that_says_which_there_are():
    with pytest.raises(UnknownNameError, match=r"no output loss 'mae'\. Did you mean 'mse'"):
        output_loss("mae", torch.zeros(4, 3))


@pytest.mark.parametrize("name", OUTPUT_LOSSES)
def test_losses_of_half_precision_outputs_are_those_of_the_same_numbers_in_float32(name):
    output, target = (random(4, 900).half() * 100, random(4, 900).roll(1).half() * 100)
    loss = OUTPUT_LOSSES[name](output, target)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert loss.equal(OUTPUT_LOSSES[name](output.float(), target.float()))
