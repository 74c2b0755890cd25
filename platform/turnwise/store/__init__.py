"""The store: trajectories and scores of a run as append-only Parquet, queried with DuckDB.

`Store` is the plain object, `turnwise.store.actor` the Ray actor around it; `save_pending` and `load_pending` keep
scored but untrained groups in a checkpoint. `atomic` has the file operations that a crash cannot leave half done.
"""

from turnwise.store.pending import load_pending, save_pending
from turnwise.store.store import Store, update_tag

__all__ = ["Store", "load_pending", "save_pending", "update_tag"]
