import math

import pytest
import torch

from dqss.search.relax import RELAXATIONS, gumbel, softmax


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_softmax_by_hand():
    alpha = torch.tensor([[0.0, math.log(3)], [2.0, 2.0]])
    assert softmax(alpha, 1.0, generator()).flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])
    # At half the temperature the odds are squared.
    assert softmax(alpha, 0.5, generator())[0].tolist() == pytest.approx([0.1, 0.9])


def test_softmax_ends_discrete_as_the_temperature_falls():
    alpha = torch.tensor([[0.1, 0.3, 0.2]])
    assert softmax(alpha, 1e-4, generator()).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("name", RELAXATIONS)
def test_mixing_weights_of_a_layer_sum_to_one(name):
    alpha = torch.randn(5, 4, generator=generator())
    mixing = RELAXATIONS[name](alpha, 0.7, generator())
    assert mixing.shape == alpha.shape
    assert torch.allclose(mixing.sum(1), torch.ones(5))
    assert (mixing > -1e-6).all()


@pytest.mark.parametrize("name", RELAXATIONS)
def test_the_same_randomness_gives_the_same_weights(name):
    alpha = torch.randn(5, 4, generator=generator())
    assert RELAXATIONS[name](alpha, 0.7, generator(1)).equal(RELAXATIONS[name](alpha, 0.7, generator(1)))


@pytest.mark.parametrize(
    ("temperature", "probabilities"),
    # (0.6, 0.3, 0.1) to the power of 1 / temperature, over their sum.
    [(1.0, [0.6, 0.3, 0.1]), (0.5, [36 / 46, 9 / 46, 1 / 46])],
)
def test_gumbel_draws_one_candidate_with_the_probabilities_of_softmax(temperature, probabilities):
    draws = gumbel(torch.tensor([0.6, 0.3, 0.1]).log().expand(20_000, 3), temperature, generator())
    assert torch.allclose(draws, draws.round(), atol=1e-6)
    # 0.02 is five standard deviations and more.
    assert torch.allclose(draws.mean(0), torch.tensor(probabilities), atol=0.02)


def test_gumbels_gradient_is_that_of_the_soft_draw():
    temperature = 0.5
    alpha = torch.zeros(1, 3, requires_grad=True)
    gumbel(alpha, temperature, generator())[0, 0].backward()
    s = (-torch.empty(1, 3).exponential_(generator=generator()).log()).softmax(1)[0].tolist()
    expected = [s[0] * (1 - s[0]) / temperature, -s[0] * s[1] / temperature, -s[0] * s[2] / temperature]
    assert alpha.grad[0].tolist() == pytest.approx(expected, rel=1e-4)
