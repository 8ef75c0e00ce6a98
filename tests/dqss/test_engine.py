import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dqss.engine import Alone, parts_of
from dqss.qat import train_qat
from dqss.schedule import Schedule

FEW = {
    "weight_quantizers": ["lsq", "dorefa"],
    "activation_quantizers": ["lsq-plus", "apot"],
    "bits": "W3A3",
    "start": "best-uniform",
}


@pytest.fixture
def training():
    generator = torch.Generator().manual_seed(2)
    examples = [(torch.randn(8, 2, 5, 5, generator=generator), torch.randn(8, 3, generator=generator)) for _ in "abc"]
    return lambda epoch: examples


@dataclass
class Still(Alone):
    """Takes no step, and notes the gradients that it would have taken it by."""

    seen: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def step(self) -> None:
        gradients = {name: p.grad for name, p in self._model.named_parameters() if p.grad is not None}
        self.seen.append(copy.deepcopy(gradients))


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel"])
def test_parts_have_the_gradients_of_whole_batches_in_every_phase(tiny, batches, training, relaxation):
    schedule, engines = Schedule(steps=10, warm_up=0.1, search=0.3, relaxation=relaxation), (Still(1), Still(2))
    for engine in engines:
        train_qat(tiny, training, F.mse_loss, batches, schedule, engine=engine, **FEW)
    whole, parts = (engine.seen for engine in engines)
    # Warm-up, search, and the derived strategy alone.
    for step, searching in ((0, False), (1, True), (3, True), (9, False)):
        assert whole[step].keys() == parts[step].keys()
        assert ({"alpha_weight", "alpha_activation"} <= whole[step].keys()) == searching
        for name, gradient in whole[step].items():
            largest = gradient.abs().max()
            torch.testing.assert_close(parts[step][name], gradient, rtol=0, atol=1e-4 * largest.item(), msg=name)
            # So that it says something.
            assert largest > 1e-5 or not name.startswith("alpha")
    assert len(whole[9]) < len(whole[0])


def test_parts_end_where_whole_batches_do(tiny, batches, training):
    pair = {"search": "uniform", "weight_quantizers": ["lsq"], "activation_quantizers": ["lsq"]}
    whole, parts = (
        train_qat(tiny, training, F.mse_loss, batches, Schedule(steps=12), engine=Alone(accumulation), **pair)
        for accumulation in (1, 2)
    )
    assert parts.report.curves["loss"] == pytest.approx(whole.report.curves["loss"], rel=1e-5)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_gradients_of_parts_are_those_of_the_whole_batch():
    network = nn.Linear(3, 2)
    inputs, targets = torch.randn(12, 3), torch.randn(12, 2)
    expected = torch.autograd.grad(F.mse_loss(network(inputs), targets), list(network.parameters()))
    for accumulation in (1, 3, 4):
        engine = Alone(accumulation)
        model = engine.begin(network, torch.optim.SGD(network.parameters()))
        # Twice: the gradients of one step are gone with the next.
        for _ in range(2):
            loss = engine.backward((inputs, targets), lambda x, y, model=model: F.mse_loss(model(x), y))
        assert loss == pytest.approx(F.mse_loss(network(inputs), targets).item(), rel=1e-5)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_a_state_is_a_copy_and_brings_everything_back():
    network = nn.Linear(3, 2)
    engine, example = Alone(), (torch.randn(4, 3), torch.randn(4, 2))
    model = engine.begin(network, torch.optim.Adam(network.parameters(), lr=0.1))

    def losses(steps):
        found = []
        for _ in range(steps):
            found.append(engine.backward(example, lambda x, y: F.mse_loss(model(x), y)))
            engine.step()
        return found

    losses(2)
    state = engine.state()
    once = losses(3)
    for _ in range(2):
        engine.load(state)
        assert losses(3) == once


@pytest.mark.parametrize("kind", [lambda x, y: [x, y], lambda x, y: (x, y), lambda x, y: {"x": x, "y": y}])
def test_inputs_of_any_form_are_cut_alike(kind):
    x, y, targets = torch.arange(12).view(6, 2), torch.arange(6), torch.arange(6) * 10
    for process in range(3):
        ((inputs, cut),) = parts_of((kind(x, y), targets), processes=3, accumulation=1, process=process)
        values = list(inputs.values()) if isinstance(inputs, dict) else inputs
        assert [value.tolist() for value in values] == [
            x.view(3, 2, 2)[process].tolist(),
            y.view(3, 2)[process].tolist(),
        ]
        assert cut.tolist() == targets.view(3, 2)[process].tolist()


def test_a_batch_that_cannot_be_cut_is_told(tiny, batches, training):
    with pytest.raises(ValueError, match=r"a batch of 8 cannot be cut into 1 \(processes\) x 3 \(accumulation\) equal"):
        train_qat(tiny, training, F.mse_loss, batches, Schedule(steps=10), engine=Alone(3), **FEW)
    with pytest.raises(ValueError, match=r"into 3 \(processes\) x 2 \(accumulation\) equal parts\. Give batches whose"):
        list(parts_of((torch.ones(8), torch.ones(8)), 3, 2))
    with pytest.raises(ValueError, match=r"accumulation: 0 is not allowed"):
        Alone(0)


def test_a_loss_that_is_not_finite_leaves_no_step(tiny, batches, training):
    def spoiled(output, target):
        return output.sum() * math.inf

    with pytest.raises(ValueError, match="in step 1 of 10"):
        train_qat(tiny, training, spoiled, batches, Schedule(steps=10), engine=Alone(2), **FEW)
