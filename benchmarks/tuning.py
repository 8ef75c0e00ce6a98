"""TPE: a tree-structured Parzen estimator draws each next strategy where good ones lay so far, through Optuna.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NIPS 2011), section 4; Akiba et al., "Optuna"
(KDD 2019). The only file that imports optuna.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random as Generator
from typing import TYPE_CHECKING

from dqss.candidates import with_version
from dqss.search.base import Found, Picks, Report, Search, SearchProblem

if TYPE_CHECKING:
    from optuna import Study, Trial


@dataclass(frozen=True)
class Tpe(Search):
    """Each layer's weight and activation candidate is a categorical parameter; the best trial on calibration data.

    The sampler is seeded anew for each trial, so that a search that goes on draws what an unbroken one would.

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

        generator = Generator(problem.seed)
        seeds = [generator.randrange(2**32) for _ in range(self.trials)]
        images = sum(len(target) for target in problem.calibration.targets)
        told = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = open_study(problem, self.storage)
            earlier = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
            problem.cost.forward_passes += images * len(earlier[: self.trials])
            for done in range(len(earlier), self.trials):
                study.sampler = optuna.samplers.TPESampler(seed=seeds[done])
                trial = study.ask()
                study.tell(trial, problem.loss(drawn(trial, problem)))
                report("search", done + 1, self.trials)
            trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])[: self.trials]
        finally:
            optuna.logging.set_verbosity(told)
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


def open_study(problem: SearchProblem, storage: str) -> Study:
    """Return the study of this problem: a new one in memory, or that of its file in the folder."""
    import optuna

    if not storage:
        return optuna.create_study()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(storage).mkdir(parents=True, exist_ok=True)
    name = fingerprint(problem)
    backend = JournalFileBackend(str(Path(storage) / f"{name}.journal"))
    study = optuna.create_study(study_name=name, storage=JournalStorage(backend), load_if_exists=True)
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
