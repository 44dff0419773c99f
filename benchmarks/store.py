"""Where a history lies: an SQLite file (the standard library), or any database by its URL through SQLAlchemy.

Three tables, the same everywhere: ``edge_bench_meta`` (the layout's version), ``edge_bench_result`` (a row for each
result, with the whole document) and ``edge_bench_metric`` (its figures). Both ways take the same statements. Writers
may come at the same time: SQLite's take turns (a writer waits up to 30 s), and a result is its digest, so a second copy
of it is no second row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_runtime import ConfigError

from .databases import Conflict, Database, SqlDatabase, SqliteFile
from .series import Entry

VERSION = 1

_TABLES = (
    "CREATE TABLE IF NOT EXISTS edge_bench_meta (name VARCHAR(32) PRIMARY KEY, value VARCHAR(64) NOT NULL)",
    """CREATE TABLE IF NOT EXISTS edge_bench_result (
        digest CHAR(64) PRIMARY KEY, kind VARCHAR(32) NOT NULL, name VARCHAR(255) NOT NULL, time VARCHAR(40) NOT NULL,
        added VARCHAR(40) NOT NULL, sha256 CHAR(64), environment VARCHAR(16) NOT NULL, words TEXT NOT NULL,
        commit_id VARCHAR(64), label VARCHAR(255), document {text} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS edge_bench_metric (
        digest CHAR(64) NOT NULL, metric VARCHAR(255) NOT NULL, unit VARCHAR(16) NOT NULL,
        value DOUBLE PRECISION NOT NULL, low DOUBLE PRECISION, high DOUBLE PRECISION, PRIMARY KEY (digest, metric))""",
)

_COLUMNS = ("digest", "kind", "name", "time", "added", "sha256", "environment", "words", "commit_id", "label")


def default_place() -> str:
    """Return where a history lies: ``EDGE_BENCH_HISTORY``, or a file in the user's data folder."""
    given = os.environ.get("EDGE_BENCH_HISTORY")
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return given or str(Path(data) / "edge-bench" / "history.sqlite")


def _where(wanted: Mapping[str, str | None]) -> tuple[str, dict[str, str]]:
    """Return a condition on results' columns, and its values; None is no condition."""
    values = {name: value for name, value in wanted.items() if value is not None}
    unknown = set(values) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"no column {', '.join(unknown)}")
    conditions = " AND ".join(f"r.{name} = :{name}" for name in values)
    return (f" WHERE {conditions}" if conditions else ""), values


class Store:
    """A history; a context manager.

    Parameters
    ----------
    place : str, optional
        Path of an SQLite file, or the URL of a database.
    create : bool
        Make it when it is not there; without, a missing one is an error.

    Raises
    ------
    ConfigError
        If it cannot be opened, is another program's database, or a newer version's.
    """

    def __init__(self, place: str | None = None, *, create: bool = False) -> None:
        self.place = place or default_place()
        self._database: Database
        if "://" in self.place:
            self._database = SqlDatabase(self.place)
            self.place = self._database.name
        else:
            path = Path(self.place)
            if not path.exists() and not create:
                raise ConfigError(f"{path}: there is no history yet: edge-bench history add RESULT.json makes it")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be made: {error.strerror or error}") from None
            self._database = SqliteFile(path)
        try:
            self._settle(create)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def _settle(self, create: bool) -> None:
        """Check the layout's version, and make the tables where there are none."""
        tables = self._database.tables()
        if "edge_bench_meta" not in tables:
            if isinstance(self._database, SqliteFile) and tables:
                raise ConfigError(f"{self.place}: is the database of another program; give another --store")
            if not create:
                raise ConfigError(f"{self.place}: holds no history yet: edge-bench history add RESULT.json makes it")
            self._make()
        (version,) = self._database.run("SELECT value FROM edge_bench_meta WHERE name = 'version'") or [("0",)]
        if not str(version[0]).isdigit() or int(version[0]) != VERSION:
            raise ConfigError(
                f"{self.place}: its layout is version {version[0]}, this edge-bench knows {VERSION}: "
                "use the edge-bench that made it, or give another --store"
            )

    def _make(self) -> None:
        for trial in range(3):  # two who make the same tables at the same time: one is told off, and looks again
            try:
                with self._database.transaction():
                    for statement in _TABLES:
                        self._database.run(statement.format(text=self._database.text))
                    if not self._database.run("SELECT value FROM edge_bench_meta WHERE name = 'version'"):
                        self._database.run("INSERT INTO edge_bench_meta VALUES ('version', :value)", value=str(VERSION))
                return
            except ConfigError:
                if trial == 2 or "edge_bench_meta" not in self._database.tables():
                    raise

    def add(self, entries: Iterable[Entry], *, commit: str | None = None, label: str | None = None) -> int:
        """Keep results and return how many were new; all of them, or none when one fails."""
        wanted = list(entries)
        for trial in range(3):
            try:
                with self._database.transaction():
                    return sum(self._add(e, commit, label) for e in wanted)
            except Conflict:  # another writer put one of them there meanwhile: look again
                if trial == 2:
                    raise
        return 0

    def _add(self, e: Entry, commit: str | None, label: str | None) -> bool:
        if self._database.run("SELECT 1 FROM edge_bench_result WHERE digest = :digest", digest=e.digest):
            return False
        commit = commit or e.commit
        self._database.run(
            f"INSERT INTO edge_bench_result ({', '.join(_COLUMNS)}, document) "
            f"VALUES ({', '.join(f':{c}' for c in _COLUMNS)}, :document)",
            digest=e.digest, kind=e.kind, name=e.name[:255], time=e.time, sha256=e.sha256,
            added=datetime.now(timezone.utc).isoformat(timespec="seconds"), environment=e.environment.key,
            words=e.environment.words, commit_id=commit and commit[:64], label=label and label[:255],
            document=e.document,
        )  # fmt: skip
        for m in {m.name[:255]: m for m in e.metrics}.values():
            self._database.run(
                "INSERT INTO edge_bench_metric (digest, metric, unit, value, low, high) "
                "VALUES (:digest, :metric, :unit, :value, :low, :high)",
                digest=e.digest, metric=m.name[:255], unit=m.unit, value=m.value, low=m.low, high=m.high,
            )  # fmt: skip
        return True

    def results(self, **wanted: str | None) -> list[dict[str, Any]]:
        """Return what is kept, oldest first, without the documents; `wanted` are columns' values (name, kind ...)."""
        where, values = _where(wanted)
        rows = self._database.run(
            f"SELECT {', '.join(_COLUMNS)} FROM edge_bench_result r{where} ORDER BY time, added, digest", **values
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def points(self, **wanted: str | None) -> list[dict[str, Any]]:
        """Return every figure, oldest first: its metric, unit, value and bounds, and what its result says."""
        where, values = _where(wanted)
        rows = self._database.run(
            f"SELECT m.metric, m.unit, m.value, m.low, m.high, {', '.join(f'r.{c}' for c in _COLUMNS)} "
            f"FROM edge_bench_metric m JOIN edge_bench_result r ON r.digest = m.digest{where} "
            "ORDER BY r.time, r.added, r.digest",
            **values,
        )
        names = ("metric", "unit", "value", "low", "high", *_COLUMNS)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def document(self, digest: str) -> str:
        """Return the document whose digest begins so.

        Raises
        ------
        ConfigError
            If there is none, or more than one.
        """
        rows = self._database.run(
            "SELECT document FROM edge_bench_result WHERE substr(digest, 1, :length) = :digest",
            digest=digest, length=len(digest),
        )  # fmt: skip
        if len(rows) != 1:
            raise ConfigError(f"{self.place}: {'no result' if not rows else 'more than one'} with digest {digest}")
        return str(rows[0][0])

    def remove(self, digests: Iterable[str]) -> int:
        """Remove results with their figures and return how many there were."""
        removed = 0
        with self._database.transaction():
            for digest in digests:
                removed += len(self._database.run("SELECT 1 FROM edge_bench_result WHERE digest = :d", d=digest))
                self._database.run("DELETE FROM edge_bench_metric WHERE digest = :d", d=digest)
                self._database.run("DELETE FROM edge_bench_result WHERE digest = :d", d=digest)
        return removed


def to_prune(
    rows: Sequence[Mapping[str, Any]], *, keep: int | None = None, before: str | None = None
) -> list[Mapping[str, Any]]:
    """Return which results go: older than `before` (ISO 8601, UTC), and all but the newest `keep` of a name, kind and
    environment; with both, those that both would remove."""
    newest: dict[tuple[str, str, str], int] = {}
    going = []
    for row in reversed(rows):
        series = (row["kind"], row["name"], row["environment"])
        newest[series] = newest.get(series, 0) + 1
        if (keep is None or newest[series] > keep) and (before is None or row["time"] < before):
            going.append(row)
    return going[::-1]


