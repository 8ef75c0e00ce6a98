"""Snapshots: where a training stood, on disk, so that one that was stopped goes on instead of beginning again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
"""Tensors, numbers, text, and lists and mappings of them: what `torch.load` reads with `weights_only=True`."""


@dataclass(frozen=True)
class Snapshots:
    """Where a training is kept while it lasts, and how often. What is in the folder is deleted when it ends.

    Args:
        folder: of this training alone; made where it does not exist. Several processes must see the same one. That the
            batches, the loss or the calibration are others than before is not noticed.
        every: how many steps lie between two snapshots.
    """

    folder: str | os.PathLike[str]
    every: int = 100

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every: {self.every} is not allowed. Give at least 1.")

    def path(self, shard: int) -> Path:
        """Return the file of this part of the state; there is one part, 0, unless processes keep one each."""
        return Path(self.folder) / f"training-{shard}.pt"

    def prepare(self, state: State, fingerprint: str, shard: int) -> None:
        """Write the state beside its file, which stays as it is until `publish`."""
        path = self.path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path).open("wb") as file:
            torch.save({"fingerprint": fingerprint, **state}, file)
            file.flush()
            os.fsync(file.fileno())

    def publish(self, shard: int) -> None:
        """Put what was prepared in the place of the file, in one move."""
        path = self.path(shard)
        os.replace(_unfinished(path), path)

    def load(self, fingerprint: str, shard: int) -> tuple[State | None, str | None]:
        """Return the state, None where there is none to go on from, and a sentence where a file could not be used."""
        path = self.path(shard)
        if not path.exists():
            return None, None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = state.pop("fingerprint")
        # Damage shows itself by errors of any kind.
        except Exception as error:
            return None, f"The snapshot {path.name} is damaged ({type(error).__name__}): training began anew."
        if found != fingerprint:
            return None, f"The snapshot {path.name} is of another training: this one began anew."
        return state, None

    def delete(self, shard: int) -> None:
        """Delete what is kept, and the folder where it is left empty."""
        path = self.path(shard)
        path.unlink(missing_ok=True)
        _unfinished(path).unlink(missing_ok=True)
        # Other parts may still be there, or the user's own files.
        with suppress(OSError):
            path.parent.rmdir()


def fingerprint_of(facts: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of what a training begins with: of facts by their `repr`, of tensors by shape, type and values.

    >>> one, other = {"weight": torch.zeros(2)}, {"weight": torch.zeros(3)}
    >>> fingerprint_of({"seed": 0}, one) == fingerprint_of({"seed": 0}, one)
    True
    >>> fingerprint_of({"seed": 0}, one) in (fingerprint_of({"seed": 1}, one), fingerprint_of({"seed": 0}, other))
    False
    """
    digest = hashlib.sha256()
    for name, fact in facts.items():
        digest.update(f"{name}={fact!r};".encode())
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(values.shape)}:{values.dtype};".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _unfinished(path: Path) -> Path:
    return path.with_suffix(".unfinished")
