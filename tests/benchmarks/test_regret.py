import json
import math
from dataclasses import replace

import pytest

from benchmarks import cli
from benchmarks.loss_table import LossTable, LossTableError, main, read_table
from benchmarks.methods import METHODS
from benchmarks.regret import SCORED, TabledProblem, picks_in, score, tabled_problem
from dqss.search.base import SearchProblem, no_report
from dqss.search.exhaustive import picks_at, position_of


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A table of 2^8 strategies on six images in batches of two."""
    path = tmp_path_factory.mktemp("losses") / "small.json"
    main(["--weight", "mse", "--activation", "kl,percentile", "--images", "6", "--batch", "2", "--dest", str(path)])
    return path


@pytest.fixture(scope="module")
def table(path) -> LossTable:
    return read_table(path)


@pytest.fixture(scope="module")
def problem(table) -> TabledProblem:
    return tabled_problem(table)


def run_for_real(problem: TabledProblem) -> SearchProblem:
    """The same problem, its losses by running the network."""
    fields = {name: value for name, value in vars(problem).items() if name != "losses"}
    return SearchProblem(**fields).fresh(problem.seed)


# Fewer draws than the defaults: they run the network too.
@pytest.mark.parametrize(
    ("search", "options"),
    [("best-uniform", {}), ("random", {"images": 800}), ("coordinate-descent", {}), ("tpe", {"trials": 12})],
)
def test_a_search_finds_and_pays_on_the_table_what_it_would_by_running_the_network(problem, search, options):
    tabled, real = problem.fresh(3), run_for_real(problem).fresh(3)
    told = METHODS.create(search, options).search(tabled, no_report)
    expected = METHODS.create(search, options).search(real, no_report)
    assert told.strategy == expected.strategy
    assert told.calibration_loss == pytest.approx(expected.calibration_loss, rel=1e-3)
    assert tabled.cost == real.cost


def test_a_part_of_the_problem_looks_up_its_batches_alone(problem, table):
    picks = picks_at(37, problem)
    part = problem.fresh(0).part(2)
    assert part.loss(picks) == pytest.approx(table.losses[:2, 37].mean())
    assert part.cost.forward_passes == 4


def test_a_strategy_and_its_position_tell_each_other(problem):
    for position in (0, 1, 37, 255):
        picks = picks_at(position, problem)
        assert position_of(picks, problem) == position
        assert picks_in(problem.strategy(picks), problem) == picks


def test_a_score_is_the_distance_from_the_least_loss_of_all(table, problem):
    best_pair = min(
        (table.whole[position_of(problem.uniform(0, activation), problem)] for activation in range(2)),
    )
    found = score("best-uniform", table, problem, [5, 6])
    assert found.seeds == (5,)
    assert found.losses == (pytest.approx(best_pair),)
    assert found.regrets == (pytest.approx(best_pair / table.whole.min() - 1),)
    assert found.better == (sum(table.whole < best_pair) / 256,)
    assert score("random", table, problem, [5, 6]).seeds == (5, 6)


def test_every_search_but_uniform_and_the_exhaustive_one_is_scored():
    assert set(METHODS) - set(SCORED) == {"uniform", "exhaustive"}


def test_a_table_of_something_else_is_refused(table):
    other = replace(table, facts=table.facts.model_copy(update={"weight": {"mse": 99}}))
    with pytest.raises(LossTableError, match=r"of version 99 of 'mse'.*Make it again"):
        tabled_problem(other)
    with pytest.raises(LossTableError, match=r"another checkpoint of resnet8.*Make it again"):
        tabled_problem(replace(table, facts=table.facts.model_copy(update={"checkpoint": "0" * 64})))
    with pytest.raises(LossTableError, match=r"the table's best strategy has a loss of .*Make it again"):
        tabled_problem(replace(table, losses=2 * table.losses))


def test_the_command_prints_a_table_or_json(path, table, capsys):
    given = ["regret", "--table", str(path), "--search", "best-uniform", "--search", "random", "--seeds", "0,1"]
    assert cli.main(given) == 0
    shown = capsys.readouterr().out
    assert "all 256 strategies of mse for weights and kl, percentile for activations, on 6 calibration images" in shown
    assert "regret %" in shown
    assert cli.main([*given, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["table"]["sha256"] == table.facts.sha256
    assert [each["search"] for each in told["scores"]] == ["best-uniform", "random"]
    assert len(told["scores"][1]["regrets"]) == 2
    assert all(math.isfinite(regret) and regret >= 0 for each in told["scores"] for regret in each["regrets"])


def test_a_search_that_is_not_scored_is_answered_with_those_that_are(path, capsys):
    assert cli.main(["regret", "--table", str(path), "--search", "dqs"]) == 2
    assert "--search: 'dqs' is not scored. Did you mean 'dqss'?" in capsys.readouterr().err
