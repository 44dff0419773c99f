"""An SQLite file or a database by its URL, behind the few calls that a store needs; see `store`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from edge_runtime import ConfigError

WAIT_S = 30.0

Row = Sequence[Any]


class Conflict(ConfigError):
    """Another writer put the same row there first."""


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


class Database(Protocol):
    """What both ways offer; parameters are named ``:name``."""

    text: str  # the type of a column that takes a whole document

    def transaction(self) -> Any:
        """Return a context that commits at its end, or rolls back."""

    def run(self, statement: str, **parameters: Any) -> list[Row]:
        """Run a statement and return its rows."""

    def tables(self) -> set[str]:
        """Return the names of the tables there."""

    def close(self) -> None:
        """Let go of it."""


class SqliteFile:
    """A file; a broken or foreign one is refused in one line."""

    text = "TEXT"

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._plain_errors():
            self._connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
            self._connection.execute("PRAGMA schema_version").fetchall()  # reads the file's header

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Conflict(f"{self.path}: {error}") from None
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise ConfigError(f"{self.path}: another process kept it locked for {WAIT_S:g} s; try again") from None
            remedy = "give another --store" if isinstance(error, sqlite3.OperationalError) else (
                "it is no SQLite file or is damaged: move it away, or give another --store"
            )  # fmt: skip
            raise ConfigError(f"{self.path}: cannot be used as a history: {error}; {remedy}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the writer's lock at once, so that nobody writes between our reading and writing."""
        with self._plain_errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        with self._plain_errors():
            self._connection.execute("COMMIT")

    def run(self, statement: str, **parameters: Any) -> list[Row]:
        """Run a statement and return its rows."""
        with self._plain_errors():
            return self._connection.execute(statement, parameters).fetchall()

    def tables(self) -> set[str]:
        """Return the names of the tables there."""
        return {row[0] for row in self.run("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqlDatabase:
    """A database by its URL."""

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise ConfigError("a database by URL needs SQLAlchemy: pip install 'edge-bench[store]'") from None
        self._sql = sqlalchemy
        self.name = re.sub(r"://([^:/@]*):[^@]*@", r"://\1:...@", url)  # no password in a message
        with self._plain_errors():
            self._engine = sqlalchemy.create_engine(url)
            self._connection = self._engine.connect()
        self.text = "LONGTEXT" if self._engine.dialect.name in ("mysql", "mariadb") else "TEXT"

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            raise ConfigError(f"{self.name}: its driver is missing: pip install {error.name}") from None
        except self._sql.exc.IntegrityError as error:
            raise Conflict(f"{self.name}: the database refused: {_cause(error)}") from None
        except (self._sql.exc.SQLAlchemyError, ValueError) as error:
            raise ConfigError(f"{self.name}: the database refused: {_cause(error)}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end."""
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        with self._plain_errors():
            self._connection.commit()

    def run(self, statement: str, **parameters: Any) -> list[Row]:
        """Run a statement and return its rows."""
        with self._plain_errors():
            done = self._connection.execute(self._sql.text(statement), parameters)
            return [tuple(row) for row in done] if done.returns_rows else []

    def tables(self) -> set[str]:
        """Return the names of the tables there."""
        with self._plain_errors():
            return set(self._sql.inspect(self._connection).get_table_names())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._engine.dispose()
