from dqss.search.base import no_report
from dqss.search.uniform import Uniform


def test_the_first_pair_of_candidates_serves_every_layer(problem):
    found = Uniform().search(problem, no_report)
    assert {(choice.weight, choice.activation) for choice in found.strategy.layers.values()} == {("percentile", "mse")}
    assert problem.cost.forward_passes == 10
