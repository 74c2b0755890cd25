"""Groups that were scored but not yet trained on, as one Parquet file of a checkpoint: exact resume needs them.

Called by the controller when it saves and when it resumes. One row a group, its trajectories and scores nested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.errors import UserError
from turnwise.records import Failure, FailureKind, Group, Score, Task, Trajectory
from turnwise.store.arrow import scores_to_table, table_to_scores, table_to_trajectories, trajectories_to_table
from turnwise.store.atomic import write_bytes_atomically
from turnwise.store.schema import check_version, json_text, with_metadata


def save_pending(path: Path, groups: Sequence[Group]) -> None:
    """Write groups to a file, atomically; no groups give an empty file that loads as none."""
    trajectories = trajectories_to_table([each for group in groups for each in group.trajectories])
    scores = scores_to_table([score for group in groups for score in group.scores])
    columns = {
        "group": pa.array([json_text(group_to_json(group)) for group in groups], pa.string()),
        "trajectories": _nest(trajectories, [len(group.trajectories) for group in groups]),
        "scores": _nest(scores, [len(group.scores) for group in groups]),
    }
    write_bytes_atomically(Path(path), table_to_bytes(with_metadata(pa.table(columns))))


def load_pending(path: Path) -> tuple[Group, ...]:
    """Return the groups that `save_pending` wrote; UserError for a newer schema or a damaged file."""
    table = read_table(Path(path))
    trajectories = table_to_trajectories(_unnest(table, "trajectories"))
    scores = table_to_scores(_unnest(table, "scores"))
    headers = [json.loads(text) for text in table.column("group").to_pylist()]
    return assemble_groups(headers, trajectories, scores)


def group_to_json(group: Group) -> dict[str, Any]:
    """Return what a group holds besides its trajectories and scores, and how many of these it has."""
    header: dict[str, Any] = {
        "group_id": group.group_id,
        "task": asdict(group.task),
        "failures": [asdict(failure) for failure in group.failures],
        "num_trajectories": len(group.trajectories),
        "num_scores": len(group.scores),
    }
    return header | _selection_to_json(group)


def _selection_to_json(group: Group) -> dict[str, Any]:
    """Return what a selection said of a group; nothing where there was none."""
    if group.trained is None and not group.later and not group.is_rest:
        return {}
    trained = None if group.trained is None else list(group.trained)
    return {"selection": {"trained": trained, "later": list(group.later), "is_rest": group.is_rest}}


def _selection_from_json(header: dict[str, Any]) -> dict[str, Any]:
    found = header.get("selection")
    if found is None:
        return {}
    trained = None if found["trained"] is None else tuple(found["trained"])
    return {"trained": trained, "later": tuple(found["later"]), "is_rest": found["is_rest"]}


def assemble_groups(
    headers: Sequence[dict[str, Any]], trajectories: Sequence[Trajectory], scores: Sequence[Score]
) -> tuple[Group, ...]:
    """Return groups from `group_to_json` headers and from their trajectories and scores laid end to end."""
    groups = []
    trajectory_stops = accumulate(header["num_trajectories"] for header in headers)
    score_stops = accumulate(header["num_scores"] for header in headers)
    for header, stop, score_stop in zip(headers, trajectory_stops, score_stops, strict=True):
        group = Group(
            group_id=header["group_id"],
            task=Task(**header["task"]),
            trajectories=tuple(trajectories[stop - header["num_trajectories"] : stop]),
            scores=tuple(scores[score_stop - header["num_scores"] : score_stop]),
            failures=tuple(Failure(**{**each, "kind": FailureKind(each["kind"])}) for each in header["failures"]),
            **_selection_from_json(header),
        )
        groups.append(group)
    return tuple(groups)


def table_to_bytes(table: pa.Table) -> memoryview:
    """Return a table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return memoryview(sink.getvalue()).cast("B")


def read_table(path: Path) -> pa.Table:
    """Return the table of one of the store's files; UserError for a newer schema or a damaged file."""
    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise UserError("store", path, f"is damaged ({error})", "remove the file") from error
    check_version(table.schema.metadata, path)
    return table


def _nest(table: pa.Table, counts: Sequence[int]) -> pa.ListArray:
    struct = table.to_struct_array().combine_chunks()
    return pa.ListArray.from_arrays(pa.array([0, *accumulate(counts)], pa.int32()), struct)


def _unnest(table: pa.Table, name: str) -> pa.Table:
    return pa.Table.from_struct_array(table.column(name).combine_chunks().flatten())
