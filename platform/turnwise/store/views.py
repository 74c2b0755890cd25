"""SQL over stored trajectories and scores: DuckDB reads the Parquet files in place.

Called by `Store.query`. A query sees three views and nothing else: no other file, no network, no extension download.

    trajectories  one row an episode, failed ones too (without its turns)
    turns         one row a turn, counted from 0; per-token arrays only where asked for
    scores        one row a score; `value` is null where it is masked
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from turnwise.errors import UserError
from turnwise.store.schema import HEADER, ID_COLUMNS, SCORES, TRAJECTORIES

if TYPE_CHECKING:
    import duckdb

_TURNS = """
create view turns as
select tag, "update", is_eval, group_id, trajectory_id, "index", turn,
       len(each.observation_ids) as num_observation_tokens, len(each.action_ids) as num_action_tokens,
       {columns}
from (select *, unnest(range(len(turns))) as turn, unnest(turns) as each from stored_trajectories)
"""


def run_query(
    sql: str, trajectory_files: Sequence[Path], score_files: Sequence[Path], *, with_ids: bool = False
) -> pa.Table:
    """Return the result of one SQL statement over the views; UserError for a statement that DuckDB refuses."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        _add_source(connection, "stored_trajectories", trajectory_files, TRAJECTORIES)
        _add_source(connection, "scores", score_files, SCORES)
        connection.execute("create view trajectories as select * exclude (turns) from stored_trajectories")
        connection.execute(_TURNS.format(columns=_turn_columns(with_ids)))
        _lock_down(connection, [*trajectory_files, *score_files])
        try:
            result = connection.sql(sql)
            return pa.table({}) if result is None else result.to_arrow_table()
        except duckdb.Error as error:
            raise UserError("sql", sql, str(error), "the views are trajectories, turns and scores") from error


def _turn_columns(with_ids: bool) -> str:
    turn = TRAJECTORIES.field("turns").type.value_type
    return ", ".join(f"each.{item.name} as {item.name}" for item in turn if with_ids or item.name not in ID_COLUMNS)


def _add_source(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path], schema: pa.Schema) -> None:
    if files:
        connection.read_parquet([str(file) for file in files]).create_view(name)
    else:
        connection.register(name, pa.schema([*HEADER, *schema]).empty_table())


def _lock_down(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    paths = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    connection.execute(f"set allowed_paths = [{paths}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
