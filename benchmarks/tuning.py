"""TPE: a tree-structured Parzen estimator draws each next strategy, or learning rate, where good ones lay so far.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NIPS 2011), section 4; Akiba et al., "Optuna"
(KDD 2019). The only file that imports optuna.

A sampler is seeded anew for each trial, so that what was killed goes on to draw what an unbroken one would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random as Generator
from typing import TYPE_CHECKING, Literal

from dqss.candidates import with_version
from dqss.search.base import Found, Picks, Report, Search, SearchProblem

if TYPE_CHECKING:
    from optuna import Study, Trial


RANDOM_TRIALS = 4
"""Of learning rates; the estimator draws the others."""


@dataclass(frozen=True)
class Tpe(Search):
    """Each layer's weight and activation candidate is a categorical parameter; the best trial on calibration data.

    Args:
        trials: how many strategies are tried, each on the whole calibration set, as the estimator needs true losses.
        storage: a folder that keeps the trials of each problem in a file: a search that was killed goes on there, and
            its cost counts all trials. Empty: they are in memory, and a killed search begins again.
    """

    trials: int = 80
    storage: str = ""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials: {self.trials} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        import optuna

        seeds = seeds_of(problem.seed, self.trials)
        images = sum(len(target) for target in problem.calibration.targets)
        with quiet():
            journal = Path(self.storage) / f"{fingerprint(problem)}.journal" if self.storage else None
            study = open_study(journal, "minimize")
            earlier = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
            problem.cost.forward_passes += images * len(earlier[: self.trials])
            for done in range(len(earlier), self.trials):
                study.sampler = optuna.samplers.TPESampler(seed=seeds[done])
                trial = study.ask()
                study.tell(trial, problem.loss(drawn(trial, problem)))
                report("search", done + 1, self.trials)
            trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])[: self.trials]
        report("search", self.trials, self.trials)
        losses = [float(trial.values[0]) for trial in trials]
        best = trials[losses.index(min(losses))]
        picks = tuple((best.params[f"{name}.weight"], best.params[f"{name}.activation"]) for name in problem.layers)
        return Found(problem.strategy(picks), min(losses), curves={"loss": losses})


def drawn(trial: Trial, problem: SearchProblem) -> Picks:
    """Return the trial's strategy."""
    weights, activations = range(len(problem.weight_quantizers)), range(len(problem.activation_quantizers))
    return tuple(
        (
            trial.suggest_categorical(f"{name}.weight", weights),
            trial.suggest_categorical(f"{name}.activation", activations),
        )
        for name in problem.layers
    )


@dataclass(frozen=True)
class Trialled:
    """What was tried, and what it was worth."""

    values: dict[str, float]
    score: float


def maximise(
    objective: Callable[[dict[str, float]], float],
    space: Mapping[str, tuple[float, float]],
    first: Mapping[str, float],
    trials: int,
    journal: Path,
) -> list[Trialled]:
    """Return so many trials of positive numbers, in their order; those in the journal are not run again.

    Args:
        objective: from values to a finite score; higher is better.
        space: name -> lowest and highest value; drawn evenly in the logarithm, three digits of them.
        first: the values of the first trial, within the space; taken as they are.
        trials: how many in all.
        journal: a file of this objective's trials; made where it is not.
    """
    import optuna

    def written(drawn: Mapping[str, float]) -> dict[str, float]:
        return {n: value if value == first[n] else rounded(value) for n, value in drawn.items()}

    seeds = seeds_of(0, trials)
    with quiet():
        study = open_study(journal, "maximize")
        complete = optuna.trial.TrialState.COMPLETE
        for done in range(len(study.get_trials(states=[complete])), trials):
            study.sampler = optuna.samplers.TPESampler(seed=seeds[done], n_startup_trials=RANDOM_TRIALS)
            if done == 0:
                study.enqueue_trial(dict(first))
            trial = study.ask()
            drawn = {name: trial.suggest_float(name, *ends, log=True) for name, ends in space.items()}
            study.tell(trial, objective(written(drawn)))
        found = study.get_trials(states=[complete])[:trials]
    return [Trialled(written(trial.params), float(trial.values[0])) for trial in found]


def rounded(value: float) -> float:
    """Return a number with three digits, as people write it into a file.

    >>> rounded(0.00123456)
    0.00123
    """
    return float(f"{value:.3g}")


def seeds_of(seed: int, trials: int) -> list[int]:
    """Return a seed for each trial."""
    generator = Generator(seed)
    return [generator.randrange(2**32) for _ in range(trials)]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling each trial."""
    import optuna

    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(told)


def open_study(journal: Path | None, direction: Literal["minimize", "maximize"]) -> Study:
    """Return the study of a file, or a new one in memory."""
    import optuna

    if journal is None:
        return optuna.create_study(direction=direction)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(study_name=journal.stem, storage=storage, direction=direction, load_if_exists=True)
    # A trial that was running when the process was killed would tell the sampler that its place is taken.
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def fingerprint(problem: SearchProblem) -> str:
    """Return 64 hex digits that differ where trials of one problem say nothing of the other.

    The full-precision outputs stand for the network and the calibration images.
    """
    import optuna

    facts = {
        "optuna": optuna.__version__,
        "seed": problem.seed,
        "layers": list(problem.layers),
        "weight": [(with_version(name), repr(made)) for name, made in problem.weight_quantizers.items()],
        "activation": [(with_version(name), repr(made)) for name, made in problem.activation_quantizers.items()],
        "bits": str(problem.prepared.bits),
        "protocol": asdict(problem.prepared.protocol),
        "loss": problem.output_loss.__name__,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for target in problem.calibration.targets:
        digest.update(target.cpu().numpy().tobytes())
    return digest.hexdigest()
