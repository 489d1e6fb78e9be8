"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmalign_eval.cli.files import write_json
from mmalign_eval.files import write_whole


def test_a_file_is_there_whole_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    assert write_whole(path, [b"ab", b"c"]) == hashlib.sha256(b"abc").hexdigest()
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(OSError, match="No space"):
        write_whole(path, broken())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    there, link = tmp_path / "there.txt", tmp_path / "link.txt"
    link.symlink_to(there)
    write_whole(link, [b"new"])
    assert link.is_symlink()
    assert there.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    """As `/dev/null` and `/dev/stdout` are: renaming a file onto them would take them from everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_whole(pipe, [b"ab", b"c"])
    reader.join(10)
    assert read == [b"abc"]
    assert pipe.is_fifo()


def test_half_a_character_is_an_escape_in_json(tmp_path: Path) -> None:
    write_json(str(tmp_path / "a.json"), {"said": "caf\u00e9 \ud83d"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"said": "caf\u00e9 \ud83d"}
