import hashlib
import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.checkpoints import SHIPPED, find_checkpoint, load_model
from benchmarks.pretrain import RECIPES, Recipe, optimizer_for, pretrain, train
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import MissingDataError, Split
from benchmarks.tasks.classification import Classification
from dqss.search.base import no_report

TINY = Recipe(epochs=6, batch_size=16)


class Halves(Classification):
    """Which half of a small image is bright: easy to learn, in a second."""

    name = "halves"
    in_channels = 1
    classes = 2
    mean, std = 0.5, 0.3

    def __init__(self, complete=True):
        self.complete = complete
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(96) % 2
        noise = torch.randint(0, 80, (96, 1, 6, 6), generator=generator)
        # Upper or lower, for training flips left and right.
        noise[self.labels == 0, :, :3] += 150
        noise[self.labels == 1, :, 3:] += 150
        self.images = noise.to(torch.uint8)

    def check(self, split):
        if not self.complete:
            raise MissingDataError("no halves here. Get them.")

    def ids(self, split):
        return list(range(64) if split is Split.TRAIN else range(64, 96))

    def data(self, split):
        ids = self.ids(split)
        return self.images[ids], self.labels[ids]

    def training_data(self):
        return {"data": "halves"}


class Small(nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, classes)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


class OneModel:
    def load(self, name):
        assert name == "small"
        return Small


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """The one model there is, one thread, and random numbers that stay as they were."""
    monkeypatch.setattr("benchmarks.pretrain.MODELS", OneModel())
    monkeypatch.setattr("benchmarks.checkpoints.MODELS", OneModel())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    def trained(name, seed, disturbance):
        torch.manual_seed(disturbance)
        return digest(pretrain("small", Halves(), replace(TINY, seed=seed), tmp_path / name, no_report))

    assert trained("a", 0, disturbance=1) == trained("b", 0, disturbance=2)
    assert trained("a", 0, disturbance=1) != trained("c", 1, disturbance=1)


def test_the_loss_falls_and_the_task_is_learnt(tmp_path):
    stages = []
    weights = pretrain("small", Halves(), TINY, tmp_path, lambda *stage: stages.append(stage))
    told = [stage for stage in stages if stage[0].startswith("epoch")]
    # 64 images in batches of 16, six times.
    assert [(done, total) for _, done, total in told] == [(step, 24) for step in range(1, 25)]
    assert told[0][0].startswith("epoch 1/6, loss ")
    losses = [float(name.rpartition(" ")[2]) for name, _, _ in told]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    facts = json.loads(weights.with_suffix(".json").read_text())
    assert facts["score"]["test"] > 90


def test_the_checkpoint_says_how_it_was_made_and_is_found(tmp_path, monkeypatch):
    task = Halves()
    weights = pretrain("small", task, TINY, tmp_path / "mine", no_report)
    assert weights == tmp_path / "mine" / "halves" / "small.safetensors"
    facts = json.loads(weights.with_suffix(".json").read_text())
    assert facts["sha256"] == digest(weights)
    assert facts["recipe"] == asdict(TINY)
    assert (facts["model"], facts["task"], facts["training_images"]) == ("small", "halves", 64)
    assert facts["data"] == {"data": "halves"}
    assert facts["parameters"] == (9 * 4 + 4) + (4 + 4) + (144 * 2 + 2)

    monkeypatch.setenv("DQSS_CHECKPOINTS", str(tmp_path / "mine"))
    checkpoint = find_checkpoint("small", "halves")
    assert checkpoint.recipe == facts
    network = load_model("small", task, checkpoint)
    assert task.evaluate(network, Split.TEST, no_report).primary == facts["score"]["test"]
    assert all(each.is_contiguous() for each in load_file(weights).values())


def test_the_test_set_decides_nothing(tmp_path):
    class Blind(Halves):
        def data(self, split):
            images, labels = super().data(split)
            return images, labels if split is Split.TRAIN else 1 - labels

    seen = pretrain("small", Halves(), TINY, tmp_path / "seen", no_report)
    blind = pretrain("small", Blind(), TINY, tmp_path / "blind", no_report)
    assert digest(seen) == digest(blind)


def test_the_first_step_of_each_optimizer_is_the_one_worked_out_by_hand():
    def after_one_step(recipe):
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, 2.0)
        optimizer = optimizer_for(network, recipe)
        (3 * network.weight).sum().backward()
        optimizer.step()
        return network.weight.item()

    sgd = Recipe(epochs=1, learning_rate=0.01, momentum=0.9, weight_decay=0.5)
    # Gradient 3 + 0.5 * 2; Nesterov goes 1 + 0.9 times as far.
    assert after_one_step(sgd) == pytest.approx(2 - 0.01 * 1.9 * 4)
    # Adam's first step is the learning rate, whatever the gradient.
    assert after_one_step(replace(sgd, optimizer="adam")) == pytest.approx(2 - 0.01)


def test_the_momentum_of_a_recipe_is_the_first_beta_of_adam():
    """Two steps with opposite gradients; the mean of their squares is 1."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = optimizer_for(network, Recipe(2, optimizer="adam", learning_rate=0.1, momentum=0.5, weight_decay=0.0))
    for gradient in (-1.0, 1.0):
        network.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    mean = (0.5 * 0.5 * -1 + 0.5 * 1) / (1 - 0.5**2)
    assert network.weight.item() == pytest.approx(0.1 - 0.1 * mean)


def test_adam_learns_the_task_too(tmp_path):
    recipe = replace(TINY, optimizer="adam", learning_rate=0.02, precision="float32")
    weights = pretrain("small", Halves(), recipe, tmp_path, no_report)
    facts = json.loads(weights.with_suffix(".json").read_text())
    assert facts["score"]["test"] > 90
    assert (facts["recipe"]["optimizer"], facts["recipe"]["precision"]) == ("adam", "float32")


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-autocast", torch.bfloat16), ("float32", torch.float32)])
def test_the_network_computes_in_the_precision_of_the_recipe(precision, dtype):
    network, seen = Small(1, 2), set()
    network.head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    train(network, Halves(), replace(TINY, epochs=1, precision=precision), no_report)
    assert seen == {dtype}


def test_training_leaves_the_network_in_eval_mode():
    network = Small(1, 2)
    train(network, Halves(), replace(TINY, epochs=1), no_report)
    assert not network.training


def test_without_the_training_data_nothing_is_begun(tmp_path):
    with pytest.raises(MissingDataError, match="Get them"):
        pretrain("small", Halves(complete=False), TINY, tmp_path, no_report)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "task"), list(RECIPES))
def test_the_shipped_checkpoints_are_those_of_the_recipes(model, task):
    facts = json.loads((SHIPPED / task / f"{model}.json").read_text())
    assert facts["recipe"] == asdict(RECIPES[model, task])
    images = len(TASKS.create(task).ids(Split.TRAIN))
    assert (facts["model"], facts["task"], facts["training_images"]) == (model, task, images)


def test_every_shipped_checkpoint_has_a_recipe():
    assert {(path.stem, path.parent.name) for path in SHIPPED.glob("*/*.safetensors")} == set(RECIPES)
