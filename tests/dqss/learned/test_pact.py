import torch

from dqss.learned.pact import Clipped, Pact
from dqss.spec import QuantSpec

UNSIGNED = QuantSpec(2, symmetric=False)


def test_values_are_those_of_equations_1_and_2():
    # alpha = 6 over 2^2 - 1 steps: levels 0, 2, 4, 6.
    quantizer = Clipped(torch.tensor([6.0]), False, UNSIGNED)
    assert quantizer(torch.tensor([-5.0, 0.9, 1.1, 3.5, 5.5, 99.0])).tolist() == [0, 0, 2, 4, 6, 6]


def test_alpha_gathers_the_gradients_of_clipped_values_and_x_those_of_others():
    quantizer = Clipped(torch.tensor([6.0]), False, UNSIGNED)
    x = torch.tensor([-5.0, 0.9, 5.9, 6.0, 99.0], requires_grad=True)
    quantizer(x).backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert quantizer.alpha.grad.tolist() == [24]
    assert x.grad.tolist() == [0, 2, 4, 0, 0]


def test_signed_values_are_clipped_at_both_ends():
    quantizer = Clipped(torch.tensor([3.0]), True, UNSIGNED)
    x = torch.tensor([-9.0, -2.0, 0.3, 1.4, 9.0], requires_grad=True)
    result = quantizer(x)
    # A step of 2 * 3 / 3 = 2, two levels below 0.
    assert result.tolist() == [-4, -2, 0, 2, 2]
    result.backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert quantizer.alpha.grad.tolist() == [16 - 1]
    assert x.grad.tolist() == [0, 2, 4, 8, 0]


def test_gradients_are_the_derivatives_of_the_clip():
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(40, generator=generator, dtype=torch.float64)).requires_grad_()
    for signed in (False, True):
        quantizer = Clipped(torch.tensor([2.0], dtype=torch.float64), signed, UNSIGNED)
        weight = torch.randn(40, generator=generator, dtype=torch.float64)

        def surrogate(x, alpha, quantizer=quantizer):
            return torch.func.functional_call(Surrogate(quantizer), {"quantizer.alpha": alpha}, (x,))

        assert torch.autograd.gradcheck(surrogate, (x, quantizer.alpha))
        (quantizer(x) * weight).sum().backward()
        expected = torch.autograd.grad((quantizer.surrogate(x) * weight).sum(), [x, quantizer.alpha])
        torch.testing.assert_close([x.grad, quantizer.alpha.grad], list(expected))
        x.grad = None


class Surrogate(torch.nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x):
        return self.quantizer.surrogate(x)


def test_the_first_clip_is_the_highest_level_that_mse_finds(summarise):
    # Levels 0, 1, 2, 3 cost 1, for the outlier; any other range costs more for the rest.
    x = torch.tensor([1.0, 2.0, 3.0] * 300 + [4.0])
    assert Pact().for_activation(summarise(x), UNSIGNED).alpha.tolist() == [3]
