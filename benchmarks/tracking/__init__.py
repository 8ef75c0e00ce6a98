"""Keeps MLflow up to date with the records. The only package that imports mlflow.

Records are the truth; tracking makes MLflow hold each of them once. During a run a child process does it, fed with
keys through a pipe: mlflow takes seconds to import and 200 MB, which must neither slow the cells down nor count in
their `peak_memory_mb`. A marker beside the records, `<out>/<suite>/tracked/<key>`, says what is tracked and where, so
that what a kill or an absent server left out is found again: records without one are the spool.

`tracker` is the run's side and `serve` the child's, `catch_up` what `dqss-bench sync` does, `store` all that is said to
MLflow.
"""

from benchmarks.markers import store_location, ui_command
from benchmarks.tracking.catch_up import SyncResult, sync
from benchmarks.tracking.tracker import Tracker

__all__ = ["SyncResult", "Tracker", "store_location", "sync", "ui_command"]
