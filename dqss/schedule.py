"""What quantization-aware training spends: the steps of each phase and the learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqss.registry import UnknownNameError, did_you_mean
from dqss.search.relax import RELAXATIONS

THEN = ("go-on", "restart")
"""What the derived strategy may begin from."""


@dataclass(frozen=True)
class Schedule:
    """Three phases against under-fitting, of weights that would have to suit every candidate until the end.

    Warm-up: all candidates are mixed evenly, while weights and quantizers get used to few bits. Search: alpha moves
    with them, under a temperature that falls geometrically. Then the argmax of alpha is derived, and training goes on
    with it alone. A uniform strategy takes the same steps, all of them with its one pair.

    Args:
        steps: of all three phases together; one batch each.
        warm_up: the part of them before alpha moves.
        search: the part of them in which it moves; what is left of 1 trains the derived strategy.
        relaxation: `softmax` or `gumbel`. By `gumbel` one candidate per layer is drawn for each step of the search; at
            2 bits the network hardly learns from strategies drawn at random.
        warm: the temperature until the first step of the search.
        cold: the temperature of its last step. Where candidates are still mixed then, the derived strategy begins far
            behind the mixture.
        rise: the part of all steps over which the learning rates of network and quantizers rise from 0, before they
            fall; of uniform strategies too. At 2 bits what is lost in the first steps at full rates is not made up.
        then: what the derived strategy begins from. `go-on`: from the searched weights. `restart`: weights, quantizers
            and optimizer go back to where training began, and the learning rates fall anew over the steps that are
            left. A uniform strategy has nothing to restart for and goes on.
    """

    steps: int
    warm_up: float = 0.05
    search: float = 0.45
    relaxation: str = "softmax"
    warm: float = 1.0
    cold: float = 0.03
    rise: float = 0.2
    then: str = "go-on"

    def __post_init__(self) -> None:
        # With a part of a step training would never see its last one.
        if not (self.steps >= 1 and self.steps % 1 == 0):
            raise ValueError(f"steps: {self.steps} is not allowed. Give a whole number, at least 1.")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up: {self.warm_up} is not allowed. Give a number from 0 to below 1.")
        if not (self.search > 0 and self.warm_up + self.search <= 1):
            raise ValueError(
                f"search: {self.search} is not allowed. Give a number above 0 that is, with warm_up ({self.warm_up}), "
                "at most 1."
            )
        if self.relaxation not in RELAXATIONS:
            raise UnknownNameError(
                f"relaxation: '{self.relaxation}' is not allowed. {did_you_mean(self.relaxation, RELAXATIONS)}"
            )
        if self.warm == math.inf:
            raise ValueError(f"warm: {self.warm} is not allowed. Give a finite number.")
        if not self.warm >= self.cold > 0:
            raise ValueError(f"cold: {self.cold} is not allowed. Give a number above 0, at most warm ({self.warm}).")
        if not 0 <= self.rise < 1:
            raise ValueError(f"rise: {self.rise} is not allowed. Give a number from 0 to below 1.")
        if self.then not in THEN:
            raise UnknownNameError(f"then: '{self.then}' is not allowed. {did_you_mean(self.then, THEN)}")
        if self.then == "restart" and self.end == self.steps:
            raise ValueError(
                f"then: 'restart' is not allowed where warm_up ({self.warm_up}) and search ({self.search}) take all "
                "steps. Leave some, or write 'go-on'."
            )

    @property
    def begin(self) -> int:
        """The first step, counted from 0, in which alpha moves."""
        return round(self.warm_up * self.steps)

    @property
    def end(self) -> int:
        """The first step with the derived strategy.

        >>> schedule = Schedule(steps=50, warm_up=0.2, search=0.4)
        >>> schedule.begin, schedule.end
        (10, 30)
        """
        return round((self.warm_up + self.search) * self.steps)

    def temperature(self, step: int) -> float:
        """Return the temperature of a step.

        >>> schedule = Schedule(steps=5, warm_up=0.2, search=0.6, warm=1.0, cold=0.01)
        >>> [round(schedule.temperature(step), 3) for step in range(5)]
        [1.0, 1.0, 0.1, 0.01, 0.01]
        """
        progress = (step - self.begin) / max(self.end - self.begin - 1, 1)
        return self.warm * math.pow(self.cold / self.warm, min(max(progress, 0.0), 1.0))

    def share_of_rates(self, step: int) -> float:
        """Return what the learning rates of network and quantizers are multiplied by: a line up, half a cosine down.

        Goyal et al., "Accurate, Large Minibatch SGD" (arXiv 1706.02677), section 2.2, for the rise; Loshchilov, Hutter,
        "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017), for the fall. Where the derived strategy
        restarts, both happen again over the steps that are left.

        >>> [round(Schedule(steps=6, rise=1 / 3).share_of_rates(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        begun = self.end if self.then == "restart" and step >= self.end else 0
        done, steps = step - begun, self.steps - begun
        rise = self.rise * steps
        if done < rise:
            return min((done + 1) / rise, 1.0)
        return (1 + math.cos(math.pi * (done - rise) / (steps - rise))) / 2


@dataclass(frozen=True)
class Rates:
    """Learning rates of Adam.

    Args:
        network: of weights, biases and what else the network trains, as a part of the magnitude that each tensor begins
            with (`dqss.optimizer.magnitude`); it rises and falls over the steps.
        quantizers: of the quantizers' own parameters, likewise.
        alpha: in units of logits; it stays.
    """

    network: float = 0.01
    quantizers: float = 0.005
    alpha: float = 0.1

    def __post_init__(self) -> None:
        for name in ("network", "quantizers", "alpha"):
            rate = getattr(self, name)
            if not 0 < rate < math.inf:
                raise ValueError(f"{name}: {rate} is not allowed. Give a number above 0.")
