"""Whether the records of a submission fit together, each of which may be good by itself. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.records import LayerChoice, Record, Status, key_of
from benchmarks.submission import path_of

FULL_PRECISION_APART = {"%": 0.1, "dB": 0.02}
"""How far two measurements of one checkpoint may lie apart; on one machine they are equal."""
LOSS_APART = 1e-4
"""As a share: sums in another order."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What of a record is compared with others, small whatever the record holds.

    Args:
        path: in the archive.
        board: what has to be alike for two records to be compared, as a hash.
        subject: the same of all suites.
        network: the task and the checkpoint, as a hash.
        data: the task and the mode, as a hash.
        variant: the method's options and candidates, and the budget of training, as a hash.
        unit: of its metric; empty where it has none.
        ids: as a hash.
        strategy: as a hash.
        chosen: the (weight, activation) quantizers of its layers, each once.
        weights: the candidates for weights.
        activations: those for activations.
    """

    path: str
    key: str
    suite: str
    suite_version: int
    mode: str
    method: str
    seed: int | None
    status: Status
    board: str
    subject: str
    network: str
    data: str
    variant: str
    unit: str
    score: float | None
    full_precision_score: float | None
    calibration_loss: float | None
    size_bytes: int | None
    bops: int | None
    ids: str
    strategy: str
    chosen: frozenset[tuple[str, str]]
    weights: frozenset[str]
    activations: frozenset[str]

    @classmethod
    def of(cls, record: Record) -> Claim:
        """Return the claim of a record whose definition is one."""
        definition = record.definition

        def part(*names: str) -> str:
            return key_of({name: definition.get(name) for name in names})

        subject = part("task", "model", "bits", "protocol")
        candidates = {
            kind: frozenset(entry["name"] for entry in entries) for kind, entries in definition["quantizers"].items()
        }
        return cls(
            path=path_of(record),
            key=record.key,
            suite=record.suite,
            suite_version=record.suite_version,
            mode=record.mode,
            method=record.method,
            seed=record.seed,
            status=record.status,
            board=key_of({"suite": record.suite, "mode": record.mode, "subject": subject}),
            subject=subject,
            network=part("task", "model"),
            data=part("task", "mode"),
            variant=part("method", "quantizers", "training"),
            unit=record.metric.unit if record.metric else "",
            score=record.score,
            full_precision_score=record.full_precision_score,
            calibration_loss=record.calibration_loss,
            size_bytes=record.size_bytes,
            bops=record.bops,
            ids=key_of(record.ids),
            strategy=strategy_hash(record.strategy),
            chosen=frozenset((choice.weight, choice.activation) for choice in (record.strategy or {}).values()),
            weights=candidates["weight"],
            activations=candidates["activation"],
        )


def strategy_hash(strategy: dict[str, LayerChoice] | None) -> str:
    """Return a hash of what a strategy says of each layer."""
    return key_of({name: choice.model_dump() for name, choice in (strategy or {}).items()})


def faults_between(claims: Iterable[Claim]) -> list[str]:
    """Return what the claims of one submission say against each other, a line each."""
    everything = list(claims)
    ok = [claim for claim in everything if claim.status == "ok"]
    return [
        *_shipped_suites(everything),
        *_unlike(ok, lambda claim: claim.subject, lambda claim: (claim.size_bytes, claim.bops), "size_bytes or bops"),
        *_unlike(ok, lambda claim: claim.data, lambda claim: claim.ids, "ids"),
        *_full_precision(ok),
        *_variants(everything),
        *_seeds(everything),
        *_beaten(ok),
    ]


def _groups(claims: Iterable[Claim], of: Callable[[Claim], Hashable]) -> list[list[Claim]]:
    found: dict[Hashable, list[Claim]] = {}
    for claim in claims:
        found.setdefault(of(claim), []).append(claim)
    return list(found.values())


def _shipped_suites(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield suites that pretend to be newer than the shipped ones: on a board they would take their place."""
    from benchmarks.suite import load_suite, shipped_suites

    shipped = shipped_suites()
    for suite, told in sorted({(claim.suite, claim.suite_version) for claim in claims}):
        if suite in shipped and told > (version := load_suite(shipped[suite]).version):
            yield f"suite {suite}: version {told}, and the shipped one has {version}. Give your own another name."


def _unlike(
    claims: Iterable[Claim], alike: Callable[[Claim], Hashable], what: Callable[[Claim], Hashable], name: str
) -> Iterator[str]:
    for group in _groups(claims, alike):
        other = next((claim for claim in group if what(claim) != what(group[0])), None)
        if other is not None:
            yield f"{other.path}: {name}: not as in {group[0].path}, and it should be."


def _full_precision(claims: Iterable[Claim]) -> Iterator[str]:
    for group in _groups(claims, lambda claim: claim.network):
        scores = {claim.full_precision_score: claim for claim in group if claim.full_precision_score is not None}
        if scores and max(scores) - min(scores) > FULL_PRECISION_APART.get(group[0].unit, 0.0):
            low, high = min(scores), max(scores)
            yield (
                f"{scores[high].path}: full_precision_score: {high:g}, and {low:g} in {scores[low].path}, of one "
                "checkpoint."
            )


def _variants(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield methods that were tried in several ways: which of them counts would be chosen by its score."""
    for group in _groups(claims, lambda claim: (claim.board, claim.method)):
        if len({claim.variant for claim in group}) > 1:
            yield (
                f"{group[0].path}: {group[0].method} is here with several options, candidates or budgets on one board. "
                "Choose one of them on calibration or search-validation data, and submit that."
            )


def _seeds(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield methods whose seeds are not 0, 1, 2 and so on, as many as the board has: others may be chosen by score."""
    for board in _groups(claims, lambda claim: claim.board):
        asked = len({claim.seed for claim in board if claim.seed is not None})
        for group in _groups(board, lambda claim: claim.method):
            own = sorted(claim.seed for claim in group if claim.seed is not None)
            if own and own != list(range(asked)):
                yield (
                    f"{group[0].path}: {group[0].method} has the seeds {', '.join(map(str, own[:10]))}, and its board "
                    f"asks for 0 to {asked - 1}. Run what is missing; seeds that failed belong in a submission too."
                )


def _beaten(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield choices that were not made on calibration data: another one of their own candidates has a lower loss."""
    for board in _groups((claim for claim in claims if claim.mode == "ptq"), lambda claim: claim.board):
        for claim in board:
            if claim.method == "best-uniform":
                rivals = [other for other in board if other.method.startswith("uniform-")]
            elif claim.method == "exhaustive":
                rivals = board
            else:
                continue
            better = next((other for other in rivals if _could_choose(claim, other) and _is_lower(other, claim)), None)
            if better is not None:
                yield (
                    f"{claim.path}: {claim.method} has a calibration loss of {claim.calibration_loss:g}, and "
                    f"{better.method}, one of its candidates, {better.calibration_loss:g}: it was not chosen by it."
                )


def _could_choose(claim: Claim, other: Claim) -> bool:
    return all(w in claim.weights and a in claim.activations for w, a in other.chosen)


def _is_lower(other: Claim, claim: Claim) -> bool:
    first, second = other.calibration_loss, claim.calibration_loss
    return first is not None and second is not None and first < second - LOSS_APART * abs(second)
