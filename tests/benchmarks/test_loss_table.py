import json

import numpy
import pytest

from benchmarks.checkpoints import find_checkpoint
from benchmarks.loss_table import LossTable, LossTableError, main, over_all, posed, read_table
from benchmarks.records import shortened
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from dqss.quantizers import QUANTIZERS
from dqss.search.exhaustive import picks_at


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A table of 2^8 strategies on five images in batches of two, two and one."""
    path = tmp_path_factory.mktemp("losses") / "small.json"
    assert (
        main(["--weight", "mse", "--activation", "kl,percentile", "--images", "5", "--batch", "2", "--dest", str(path)])
        == 0
    )
    return path


def problem_of(table: LossTable):
    facts = table.facts
    return posed(
        facts.task,
        facts.model,
        facts.bits,
        facts.protocol,
        list(facts.weight),
        list(facts.activation),
        facts.images,
        facts.batch,
    )[0]


def test_a_table_holds_the_loss_of_each_strategy_run_whole(small):
    table = read_table(small)
    assert table.losses.shape == (3, 256)
    problem = problem_of(table)
    for position in (0, 1, 100, 255, table.facts.best):
        assert table.whole[position] == pytest.approx(problem.loss(picks_at(position, problem)), rel=1e-3)
    assert table.facts.best_loss == pytest.approx(table.whole.min(), rel=1e-6)
    assert table.whole[table.facts.best] == table.whole.min()


def test_batches_weigh_as_many_images_as_they_hold():
    losses = numpy.array([[1.0, 0], [2, 0], [6, 5]])
    assert over_all(losses, 5, 2).tolist() == pytest.approx([(2 * 1 + 2 * 2 + 6) / 5, 1])


def test_the_shipped_table_is_of_the_shipped_checkpoint_quantizers_and_images():
    table = read_table()
    facts = table.facts
    assert facts.checkpoint == find_checkpoint(facts.model, facts.task).sha256
    assert {**facts.weight, **facts.activation} == {
        name: QUANTIZERS.entry(name).version for name in (*facts.weight, *facts.activation)
    }
    assert facts.ids == shortened(TASKS.create(facts.task).ids(Split.CALIBRATION)[: facts.images])
    assert table.losses.shape[1] == (len(facts.weight) * len(facts.activation)) ** len(facts.layers)
    assert (numpy.isfinite(table.losses) & (table.losses >= 0)).all()
    assert table.whole.argmin() == facts.best
    assert table.whole.min() == pytest.approx(facts.best_loss, rel=1e-6)


def test_the_shipped_table_is_what_the_network_does():
    table = read_table()
    problem = problem_of(table)
    generator = numpy.random.default_rng(0)
    for position in (table.facts.best, *generator.integers(0, table.losses.shape[1], 4).tolist()):
        # A value may round to the neighbouring level under another machine's arithmetic.
        assert table.whole[position] == pytest.approx(problem.loss(picks_at(position, problem)), rel=1e-2)


def test_a_table_that_is_not_there_or_not_whole_is_told_with_the_command_that_makes_it(small, tmp_path):
    with pytest.raises(LossTableError, match=r"not readable.*Make it again with `python -m benchmarks\.loss_table`"):
        read_table(tmp_path / "none.json")
    facts = json.loads(small.read_text())
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps({**facts, "more": 1}))
    with pytest.raises(LossTableError, match="not readable"):
        read_table(odd)
    odd.write_text(json.dumps(facts))
    odd.with_suffix(".npz").write_bytes(small.with_suffix(".npz").read_bytes()[:-1])
    with pytest.raises(LossTableError, match=r"not the file that odd\.json describes"):
        read_table(odd)
