"""The response store: what was answered is never asked again.

One SQLite file in WAL mode. Each finished batch is one transaction, so a kill at any moment costs at most the batch in
flight. Only answers are kept; errors are never stored as one.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput, Damaged, MmevalError
from .images import digest
from .requests import Request, Response

SCHEMA = 1
CHECK_BELOW = 256 * 2**20  # bytes; a larger store is not read through at every start


def request_key(fingerprint: str, request: Request) -> str:
    """SHA-256 of everything that can change the answer: model, prompt, parameters, image bytes.

    Not the task's name, the rank or the world size.

    Raises:
        ImageError: An image of the request is missing.
    """
    parts = [fingerprint, request.canonical, *(digest(image) for image in request.prompt.images)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


class Store:
    """Answers by key.

    Raises (constructor and every call):
        BadInput: The file is a store of another schema version, or cannot be opened.
        Damaged: The file is not a readable SQLite database.
        MmevalError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise BadInput(f"--store {self.path}: a folder; give a file in it, such as {self.path / 'store.sqlite'}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot create the folder of store {self.path}: {error.strerror}") from error
        with self._readable():
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()

    def _prepare(self) -> None:
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if tables and "meta" not in tables:
            raise BadInput(f"{self.path} is a SQLite file but not a store of this program: give another --store")
        if self.path.stat().st_size < CHECK_BELOW:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, response TEXT NOT NULL)"
        )
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        self._db.execute("COMMIT")
        found = self._db.execute("SELECT value FROM meta WHERE name='schema'").fetchone()[0]
        if found != str(SCHEMA):
            raise BadInput(
                f"store {self.path} has schema {found}, this version reads {SCHEMA}: use the version of mmeval that "
                f"made it, or another --store"
            )

    def get_many(self, keys: Sequence[str]) -> dict[str, Response]:
        """The stored answers among `keys`."""
        found: dict[str, Response] = {}
        with self._readable():
            for start in range(0, len(keys), 500):
                block = keys[start : start + 500]
                marks = ",".join("?" * len(block))
                rows = self._db.execute(f"SELECT key, response FROM answers WHERE key IN ({marks})", block)
                found.update((key, Response.from_json(text)) for key, text in rows)
        return found

    def put_many(self, answers: Iterable[tuple[str, Response]]) -> None:
        """Commits answers as one transaction; responses without an answer are left out."""
        rows = [(key, response.to_json()) for key, response in answers if response.answered]
        if not rows:
            return
        with self._readable():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO answers (key, response) VALUES (?, ?)", rows)
            self._db.execute("COMMIT")

    def __len__(self) -> int:
        with self._readable():
            return int(self._db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            self._rollback()
            if "full" in str(error):
                raise MmevalError(
                    f"disk full while writing {self.path}: free some space and run the same command again; "
                    f"everything answered before is kept"
                ) from error
            raise BadInput(f"store {self.path}: {error}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError, ValueError, TypeError) as error:
            self._rollback()
            cause = " ".join(str(error).split())
            raise Damaged(
                f"store {self.path} is damaged ({cause}): move it away and run again, or give another --store"
            ) from error

    def _rollback(self) -> None:
        db = getattr(self, "_db", None)
        if db is not None and db.in_transaction:
            db.execute("ROLLBACK")
