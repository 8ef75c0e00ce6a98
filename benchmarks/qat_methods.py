"""Trained at the budget that all methods of a suite have alike.

A method is what is done with these steps. Fields are the options that suites may give; where one is left out, the
library's default holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dqss.ranges import check_start
from dqss.schedule import Rates, Schedule


class QatMethod(ABC):
    """How to train among the candidates of a cell. A subclass is a frozen dataclass whose fields are its options.

    Attributes:
        start: the post-training search whose ranges training begins with, one of dqss.ranges.STARTS.
    """

    start: str

    @abstractmethod
    def schedule(self, steps: int) -> Schedule:
        """Return what each of the steps does."""

    @abstractmethod
    def rates(self) -> Rates:
        """Return the learning rates."""


@dataclass(frozen=True)
class Uniform(QatMethod):
    """One algorithm for the weights and the inputs of all layers, in all steps.

    Args:
        network: learning rate, as of dqss.schedule.Rates.
        quantizers: likewise.
        rise: as of dqss.schedule.Schedule.
        start: one of dqss.ranges.STARTS; by `best-uniform` ranges too are those of one algorithm in all layers.
    """

    network: float = Rates.network
    quantizers: float = Rates.quantizers
    rise: float = Schedule.rise
    start: str = "best-uniform"

    def __post_init__(self) -> None:
        check_start(self.start)
        self.rates()
        self.schedule(steps=1)

    def schedule(self, steps: int) -> Schedule:
        return Schedule(steps, rise=self.rise)

    def rates(self) -> Rates:
        return Rates(network=self.network, quantizers=self.quantizers)


@dataclass(frozen=True)
class Dqss(QatMethod):
    """DQSS: alpha, the quantizers' own parameters and the network's move by one backward pass per step.

    Args:
        network: learning rate, as of dqss.schedule.Rates.
        quantizers: likewise.
        alpha: likewise.
        warm_up: part of the steps, as of dqss.schedule.Schedule.
        search: likewise.
        relaxation: `softmax` or `gumbel`.
        warm: temperature, as of dqss.schedule.Schedule.
        cold: likewise.
        rise: likewise.
        then: what the derived strategy begins from, `go-on` or `restart`.
        start: one of dqss.ranges.STARTS; by `dqss` each layer has the ranges of its own post-training algorithms.
    """

    network: float = Rates.network
    quantizers: float = Rates.quantizers
    alpha: float = Rates.alpha
    warm_up: float = Schedule.warm_up
    search: float = Schedule.search
    relaxation: str = Schedule.relaxation
    warm: float = Schedule.warm
    cold: float = Schedule.cold
    rise: float = Schedule.rise
    then: str = Schedule.then
    start: str = "dqss"

    def __post_init__(self) -> None:
        check_start(self.start)
        self.rates()
        # How many steps there will be is the suite's affair: as many as need no rounding.
        self.schedule(steps=10**6)

    def schedule(self, steps: int) -> Schedule:
        return Schedule(steps, self.warm_up, self.search, self.relaxation, self.warm, self.cold, self.rise, self.then)

    def rates(self) -> Rates:
        return Rates(self.network, self.quantizers, self.alpha)
