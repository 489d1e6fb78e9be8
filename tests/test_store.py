from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from mmalign_eval.errors import BadInput, Damaged, ImageError
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, Response, failure, greedy, with_seed
from mmalign_eval.store import Store, request_key


def ok(text: str) -> Response:
    return Response("ok", text=text, finish="stop", prompt_tokens=3, new_tokens=1)


def test_what_was_put_is_got_back_in_full(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    answers = {
        "a": Response("ok", text='line\n"quote" \u2028 \U0001f600', finish="length", new_tokens=4),
        "b": Response("truncated", logprobs=(-1.5, -0.0, -1e-30), greedy=(False, True, False), prompt_tokens=9),
    }
    store.put_many(answers.items())
    assert store.get_many(["a", "b", "c"]) == answers
    assert len(store) == 2


def test_errors_and_refusals_are_never_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put_many([("e", failure("boom")), ("r", Response("refused", error="no")), ("ok", ok("x"))])
    assert set(store.get_many(["e", "r", "ok"])) == {"ok"}


def test_answers_survive_reopening_and_thousands_of_keys(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put_many((f"k{i}", ok(str(i))) for i in range(2500))
    store.close()
    again = Store(tmp_path / "s.sqlite")
    found = again.get_many([f"k{i}" for i in range(2600)])
    assert len(found) == 2500
    assert found["k2499"].text == "2499"


def test_two_writers_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()

    def write(name: str) -> None:
        store = Store(path)
        for i in range(50):
            store.put_many([(f"{name}{i}", ok(name))])
        store.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Store(path)) == 100


def test_another_schema_version_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='99' WHERE name='schema'")
    with pytest.raises(BadInput, match=r"schema 99, this version reads 1.*another --store"):
        Store(path)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(BadInput, match="not a store"):
        Store(path)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "page"])
def test_a_damaged_store_is_named_and_exits_1(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store.put_many((f"k{i}", ok("x" * 200)) for i in range(500))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data = bytearray(b"not a database at all" * 300)
    elif damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[8192:12288] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(Damaged, match="damaged") as caught:
        Store(path)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_what_was_committed(tmp_path: Path) -> None:
    # max_page_count makes SQLite itself report a full disk
    code = f"""
from mmalign_eval.store import Store
from mmalign_eval.requests import Response
store = Store({str(tmp_path / "s.sqlite")!r})
store.put_many([("first", Response("ok", text="kept"))])
store._db.execute("PRAGMA max_page_count=20")
try:
    store.put_many((f"k{{i}}", Response("ok", text="x" * 4000)) for i in range(100))
except Exception as error:
    print(type(error).__name__, error.exit_code, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MmevalError 2 disk full")
    assert len(done.stdout.strip().splitlines()) == 1
    assert Store(tmp_path / "s.sqlite").get_many(["first", "k0"]).keys() == {"first"}


class TestKey:
    base = Generate(Prompt("Is it?"), greedy(8))

    def key(self, request: Generate | Choose, model: str = "m") -> str:
        return request_key(model, request)

    def test_equal_requests_have_equal_keys(self) -> None:
        assert self.key(self.base) == self.key(Generate(Prompt("Is it?"), greedy(8)))

    @pytest.mark.parametrize(
        "other",
        [
            Generate(Prompt("Is it??"), greedy(8)),
            Generate(Prompt("Is it?", system="S"), greedy(8)),
            Generate(Prompt("Is it?", demos=(("a", "b"),)), greedy(8)),
            Generate(Prompt("Is it?", template="raw"), greedy(8)),
            Generate(Prompt("Is it?"), greedy(9)),
            Generate(Prompt("Is it?"), greedy(8, stop=("\n",))),
            Generate(Prompt("Is it?"), GenParams(max_new_tokens=8, temperature=0.5)),
            Choose(Prompt("Is it?"), (" yes",)),
        ],
    )
    def test_everything_that_can_change_the_answer_changes_the_key(self, other: Generate | Choose) -> None:
        assert self.key(other) != self.key(self.base)

    def test_model_and_option_order_count(self) -> None:
        assert self.key(self.base) != self.key(self.base, "n")
        a, b = Choose(Prompt("x"), (" a", " b")), Choose(Prompt("x"), (" b", " a"))
        assert self.key(a) != self.key(b)

    def test_image_bytes_and_transforms_count_the_path_does_not(self, tmp_path: Path) -> None:
        for name, colour in (("a.png", "red"), ("copy.png", "red"), ("b.png", "blue")):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name)

        def key(name: str, transforms: tuple[str, ...] = ()) -> str:
            return self.key(Generate(Prompt("q", (ImageRef(str(tmp_path / name), transforms=transforms),)), greedy(1)))

        assert key("a.png") == key("copy.png")
        assert key("a.png") != key("b.png")
        assert key("a.png") != key("a.png", ("center_crop",))
        with pytest.raises(ImageError, match=r"missing\.png"):
            key("missing.png")

    def test_seeds_count_for_sampling_only_and_derive_from_the_sample(self) -> None:
        sampled = Generate(Prompt("x"), GenParams(temperature=1.0))
        assert with_seed(self.base, 1, "s") is self.base
        assert with_seed(sampled, 1, "s") == with_seed(sampled, 1, "s")
        keys = {self.key(with_seed(sampled, run, sample)) for run in (0, 1) for sample in ("s", "t")}
        assert len(keys) == 4
