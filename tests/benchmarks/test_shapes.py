"""Sizes told from the shapes of a checkpoint, against those counted on the network."""

import pytest
import torch

from benchmarks.checkpoints import SHIPPED, find_checkpoint, load_model
from benchmarks.records import LayerChoice
from benchmarks.shapes import LayerShape, Shapes, shapes_of
from benchmarks.tasks import TASKS
from dqss.cost import bit_operations, size_bytes
from dqss.graph import prepare
from dqss.spec import PROTOCOLS, Bits

CHECKPOINTS = sorted((path.stem, path.parent.name) for path in SHIPPED.glob("*/*.safetensors"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("model", "task"), CHECKPOINTS)
def test_size_and_bops_of_every_shipped_checkpoint_are_those_of_its_network(model, task, protocol):
    checkpoint = find_checkpoint(model, task)
    shapes = shapes_of(model, task, checkpoint.sha256)
    network = load_model(model, TASKS.create(task), checkpoint)
    example = torch.zeros(1, 1, 28, 28)
    prepared = prepare(network, PROTOCOLS[protocol], Bits(3, 4), [example])
    strategy = {
        name: LayerChoice(weight="mse", activation="mse", bits=str(specs.bits))
        for name, specs in prepared.specs.items()
    }
    assert shapes is not None
    assert shapes.layers.keys() == strategy.keys()
    assert shapes.size_bytes(strategy, PROTOCOLS[protocol]) == size_bytes(prepared)
    counted = bit_operations(prepared, example)
    assert counted % shapes.unit_of_bops(strategy) == 0
    assert counted >= shapes.least_bops(strategy)


def test_another_checkpoint_has_no_known_shapes():
    assert shapes_of("resnet8", "fashion-mnist", "c0") is None
    assert shapes_of("none", "fashion-mnist", None) is None


def test_normalisation_is_folded_into_a_bias_and_statistics_are_gone():
    tensors = {
        "conv.weight": (4, 3, 2, 2),
        "bn.weight": (4,),
        "bn.bias": (4,),
        "bn.running_mean": (4,),
        "bn.running_var": (4,),
        "bn.num_batches_tracked": (),
        "up.weight": (4, 5, 2, 2),
        "up.bias": (5,),
        "slope.weight": (1,),
    }
    assert Shapes.of(tensors) == Shapes({"conv": LayerShape(48, 4), "up": LayerShape(80, 5)}, others=4 + 5 + 1)
