import pytest

from benchmarks.suite import cells_of, load_suite, shipped_suites
from dqss.learned import LEARNED

EVERY = ["resnet8", "resnet20", "mobilenetv2-small"]
BITS = ["W4A4", "W3A3", "W2A2"]


def test_the_shipped_suites():
    names = [
        "adaround",
        "classification",
        "classification_full",
        "classification_qat",
        "imagenet_fidelity",
        "quickstart",
    ]
    folders = [f"super_resolution_{name}" for name in ("b100", "div2k", "set14", "set5", "urban100")]
    assert list(shipped_suites()) == [
        *names,
        "super_resolution",
        *folders[:2],
        "super_resolution_qat",
        *folders[2:],
        "super_resolution_x4",
    ]


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_is_sound_and_bears_its_file_name(name):
    suite = load_suite(shipped_suites()[name])
    assert suite.suite == name
    assert suite.protocol[0].name == ("super-resolution" if name.startswith("super_resolution") else "all-layers")
    assert suite.seeds == ((0, 1, 2) if name == "classification_full" else (0,))


@pytest.mark.parametrize(
    ("name", "models", "bits"),
    [
        ("classification", EVERY, ["W8A8", "W6A6", "W4A8", "W4A4", "W3A3"]),
        ("quickstart", ["resnet8"], ["W4A4"]),
    ],
)
def test_a_shipped_suite_compares_its_methods_in_every_place(name, models, bits):
    cells = [cell for cell in cells_of(load_suite(shipped_suites()[name])) if cell.mode == "ptq"]
    methods = list(dict.fromkeys(cell.method for cell in cells))
    assert {"uniform-minmax", "uniform-mse", "uniform-kl", "best-uniform", "random", "dqss"} <= set(methods)
    expected = [(model, width, method) for model in models for width in bits for method in methods]
    assert [(cell.model, cell.bits, cell.method) for cell in cells] == expected


def test_the_full_suite_has_every_rival_under_both_granularities_and_three_seeds():
    cells = cells_of(load_suite(shipped_suites()["classification_full"]))
    assert {cell.protocol for cell in cells} == {"all-layers", "per-channel"}
    rivals = {"greedy-sqnr", "fisher", "coordinate-descent", "tpe", "dqss-softmax", "dqss-gumbel", "dqss", "random"}
    assert rivals <= {cell.method for cell in cells}
    assert {cell.seed for cell in cells if cell.method == "dqss"} == {0, 1, 2}
    # A subject is loaded and calibrated once for cells that stand together.
    order = [(cell.model, cell.protocol) for cell in cells]
    assert [place for i, place in enumerate(order) if place not in order[:i]] == [
        (model, protocol) for model in EVERY for protocol in ("all-layers", "per-channel")
    ]


def test_the_suite_on_photographs_asks_what_uniform_kl_and_dqss_do_to_a_real_network():
    cells = cells_of(load_suite(shipped_suites()["imagenet_fidelity"]))
    places = {(cell.task, cell.model, cell.bits) for cell in cells}
    assert places == {("imagenet-fidelity", "efficientnet-lite0", "W8A8")}
    assert {"uniform-kl", "best-uniform", "dqss"} <= {cell.method for cell in cells}


@pytest.mark.parametrize("name", ["set5", "set14", "b100", "urban100", "div2k"])
def test_a_suite_on_a_users_photographs_is_skipped_with_a_reason_where_they_are_not(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    cells = cells_of(load_suite(shipped_suites()[f"super_resolution_{name}"]))
    assert {cell.task for cell in cells} == {f"{name}-x2"}
    for cell in cells:
        assert cell.skip_reason is not None
        assert f"is not in {tmp_path}" in cell.skip_reason


@pytest.mark.parametrize(
    ("name", "models", "protocol"),
    [
        ("classification_qat", EVERY, "all-layers"),
        ("super_resolution_qat", ["espcn", "fsrcnn", "edsr-small"], "super-resolution"),
    ],
)
def test_a_suite_of_training_has_every_deployable_algorithm_and_dqss_at_one_budget(name, models, protocol):
    cells = cells_of(load_suite(shipped_suites()[name]))
    methods = [f"uniform-{algorithm}" for algorithm in LEARNED if LEARNED.load(algorithm).uniform]
    expected = {(model, bits, method) for model in models for bits in BITS for method in [*methods, "dqss"]}
    assert {(cell.model, cell.bits, cell.method) for cell in cells} == expected
    assert {(cell.mode, cell.protocol, cell.seed) for cell in cells} == {("qat", protocol, 0)}
    assert len({cell.budget for cell in cells}) == 1
    assert {cell.skip_reason for cell in cells} == {None}


def test_the_tour_trains_too():
    cells = [cell for cell in cells_of(load_suite(shipped_suites()["quickstart"])) if cell.mode == "qat"]
    assert [(cell.model, cell.bits, cell.method) for cell in cells] == [
        ("resnet8", "W2A2", "uniform-lsq"),
        ("resnet8", "W2A2", "dqss"),
    ]
