"""Every learned quantizer trains a whole network, as a uniform strategy."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dqss.learned import LEARNED
from dqss.qat import train_qat
from dqss.schedule import Schedule


@pytest.fixture
def network():
    """Trained in full precision: it tells the sign of the mean of each half of the image, with normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        made.extend([nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()])
        made.extend([nn.Flatten(), nn.Linear(72, 4)])
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(3):
        for inputs, targets in examples():
            optimizer.zero_grad()
            F.cross_entropy(made(inputs), targets).backward()
            optimizer.step()
    return made.eval()


def examples():
    images = torch.randn(12, 32, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    left, right = images[..., :4].mean((2, 3, 4)) > 0, images[..., 4:].mean((2, 3, 4)) > 0
    return list(zip(images, 2 * left.long() + right.long(), strict=True))


@pytest.mark.parametrize("bits", ["W2A2", "W4A4"])
@pytest.mark.parametrize("protocol", ["all-layers", "per-channel"])
@pytest.mark.parametrize("name", list(LEARNED))
def test_a_uniform_strategy_learns_from_the_first_step(network, name, bits, protocol):
    batches = examples()
    result = train_qat(
        network,
        lambda epoch: batches,
        F.cross_entropy,
        [inputs for inputs, _ in batches[:4]],
        Schedule(steps=48),
        bits=bits,
        protocol=protocol,
        search="uniform",
        start="best-uniform",
        weight_quantizers=[name],
        activation_quantizers=[name],
    )
    algorithm = LEARNED.create(name)
    pair = (algorithm.weight_from or name, algorithm.activation_from or name)
    assert {(choice.weight, choice.activation) for choice in result.strategy.layers.values()} == {pair}
    losses = torch.tensor(result.report.curves["loss"]).view(4, 12).mean(1)
    assert losses.max() < 1.2 * losses[0]
    assert losses[-1] < losses[0]
