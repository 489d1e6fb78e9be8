"""Result files: what is written is read again, equal results are equal bytes, and damage is told and never run."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.errors import BadInput, Damaged
from mmalign_eval.metrics.base import Metric, mean, whole
from mmalign_eval.metrics.formula import Formula, at, over
from mmalign_eval.results import read_result, read_samples, read_sums
from mmalign_eval.stats import Sums, sums_of
from mmalign_eval.sums_file import sums_from, sums_to
from tests.support_results import records, write_run

PAIRED = Metric(  # not additive within a cluster: its sums are of clusters
    "both", lambda rows: (float(all(r["x"] for r in rows)), 1.0), Formula("s[0] / s[1]"), proportion=True
)
METRICS = [
    mean("accuracy", "x", proportion=True),
    mean("first/accuracy", "x", keep=lambda r: r["cluster"] < "c2"),
    PAIRED,
    Metric("odds", lambda rows: [sum(r["x"] for r in rows), float(len(rows))], over("mean", [at("s[0]", 0), "s[1]"])),
    whole("median", lambda rows: float(np.median([r["x"] for r in rows])), best=None),
    Metric("ours", lambda rows: (float(len(rows)),), lambda sums: np.sqrt(sums[..., 0]), best=None),
]  # fmt: skip
ROWS = records([1, 0, 1, 1, 0, 1, 1, 0], clusters=[0, 0, 1, 1, 2, 2, 3, 4])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_run(tmp_path, "model", "toy", METRICS, ROWS)


def same(a: Sums, b: Sums) -> bool:
    return (
        (a.samples, a.clusters, a.cluster.tolist(), dict(a.metrics))
        == (b.samples, b.clusters, b.cluster.tolist(), dict(b.metrics))
        and [(g.level, g.n) for g in a.groups] == [(g.level, g.n) for g in b.groups]
        and all(
            np.array_equal(g.rows, h.rows) and np.array_equal(g.sums, h.sums)
            for g, h in zip(a.groups, b.groups, strict=True)
        )
    )


def test_what_was_written_is_read(path: Path) -> None:
    result = read_result(path)
    sums = read_sums(path, result)
    assert same(sums, sums_of(METRICS, ROWS))
    assert [g.level for g in sums.groups] == ["sample", "sample", "cluster", "sample", "sample", "sample"]
    metrics = result["metrics"]
    assert list(metrics) == [m.name for m in METRICS]
    assert {name: m["formula"] for name, m in metrics.items()} == {
        "accuracy": "s[0] / s[1]", "first/accuracy": "s[0] / s[1]", "both": "s[0] / s[1]", "odds": "mean(s[0], s[1])",
        "median": None, "ours": None,
    }  # fmt: skip
    for name, made in sums.metrics.items():
        if made.formula is not None:
            value = made.formula(sums.by_cluster(made.group)[1].sum(axis=0))
            assert float(value) == pytest.approx(metrics[name]["value"], abs=1e-12)
    assert metrics["accuracy"]["value"] == 5 / 8
    assert metrics["both"]["value"] == 2 / 5
    assert [row["record"] for row in read_samples(path, result)] == ROWS


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.text(max_size=3)), max_size=12, unique_by=lambda r: r[1]))
@settings(max_examples=50, deadline=None)
def test_any_sums_survive_being_written(rows: list[tuple[float, str]]) -> None:
    made = [{"id": f"{i}{name}x", "cluster": f"{name[:1]}x", "x": value} for i, (value, name) in enumerate(rows)]
    metrics = [METRICS[0], METRICS[2], METRICS[4]]
    sums = sums_of(metrics, made)
    described = {
        name: {"group": m.group, "formula": m.formula, "proportion": m.proportion} for name, m in sums.metrics.items()
    }
    assert same(sums_from(sums_to(sums), described, "here"), sums)


def test_equal_results_are_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_run(tmp_path / "a", "model", "toy", METRICS, ROWS)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))  # archives may note when they were made
    monkeypatch.setattr(time, "time", lambda: 2e9)
    second = write_run(tmp_path / "b", "model", "toy", METRICS, ROWS)
    for name in ("toy.json", "toy.sums.npz", "toy.samples.jsonl"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes(), name
    other = write_run(tmp_path / "c", "model", "toy", METRICS, [*ROWS[:-1], {**ROWS[-1], "x": 1.0}])
    assert (first.parent / "toy.sums.npz").read_bytes() != (other.parent / "toy.sums.npz").read_bytes()


@pytest.mark.parametrize("name", ["toy.sums.npz", "toy.samples.jsonl"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.unlink(), "missing; run the same command again"),
        (lambda file: file.write_bytes(file.read_bytes()[:-7]), "changed or truncated since toy.json was written"),
        (lambda file: file.write_bytes(file.read_bytes() + b"\n"), "changed or truncated"),
        (lambda file: file.write_bytes(b""), "changed or truncated"),
        (lambda file: (file.unlink(), file.mkdir()), "missing"),
    ],
)
def test_files_beside_a_result_that_are_not_what_was_written(
    path: Path, name: str, damage: Callable[[Path], Any], says: str
) -> None:
    damage(path.parent / name)
    result = read_result(path)
    with pytest.raises(Damaged, match=says) as raised:
        read_sums(path, result) if "sums" in name else list(read_samples(path, result))
    assert name in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_half_a_result_file_is_damaged_in_a_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("half") / "toy.json"
    whole_file = write_run(file.parent, "model", "toy", METRICS[:1], ROWS).read_bytes()
    file.write_bytes(whole_file[: data.draw(st.integers(0, len(whole_file) - 3))])
    with pytest.raises(Damaged, match="damaged result file") as raised:
        read_result(file)
    assert len(str(raised.value).splitlines()) == 1


def edit(path: Path, place: str, value: Any) -> None:
    """Changes a part of a result file, `a/b`; `value` None removes it."""
    result = json.loads(path.read_text())
    *parents, last = place.split("/")
    inside = result
    for key in parents:
        inside = inside[key]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
    path.write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("schema", 1, "result schema 1, this version reads 2: run the same command again"),
        ("schema", 99, "result schema 99, this version reads 2: use a newer mmeval"),
        ("schema", "two", "use a newer mmeval"),
        ("task", None, "no 'task'"),
        ("task", [], "task is not an object"),
        ("task/headline", None, "no 'headline' in task"),
        ("task/headline", [["accuracy"]], "task.headline"),
        ("task/version", "1", "task.version is not a number"),
        ("model/name", 3, "model.name is not text"),
        ("model/tuned", {"method": "mm-ft"}, "no 'base' in model.tuned"),
        ("counts/n_error", None, "no 'n_error' in counts"),
        ("counts/n", True, "counts.n is not a number"),
        ("data/limit", "all", "data.limit is not a number"),
        ("metrics", [], "metrics is not an object"),
        ("metrics/accuracy", 0.5, "metric 'accuracy' is not an object"),
        ("metrics/accuracy/value", "0.5", "metric 'accuracy'.value is not a number"),
        ("metrics/accuracy/value", float("inf"), "metric 'accuracy': a value is not finite"),
        ("metrics/accuracy/low", float("nan"), "metric 'accuracy': a value is not finite"),
        ("metrics/accuracy/clusters", None, "no 'clusters' in metric 'accuracy'"),
        ("metrics/accuracy/better", "more", "metric 'accuracy': better is 'more'"),
        ("metrics/accuracy/proportion", 1, "metric 'accuracy'.proportion is not yes or no"),
        ("sums", None, "no 'sums'"),
        ("sums/file", "../toy.sums.npz", "sums.file is no name of a file beside it"),
        ("samples/file", "/etc/passwd", "samples.file is no name of a file beside it"),
    ],
)
def test_parts_that_are_missing_or_of_another_type(path: Path, place: str, value: Any, says: str) -> None:
    edit(path, place, value)
    with pytest.raises(Damaged) as raised:
        read_result(path)
    assert says in str(raised.value)
    assert str(path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_undefined_values_are_no_damage(path: Path) -> None:
    result = json.loads(path.read_text())
    result["metrics"]["accuracy"] |= dict.fromkeys(("value", "low", "high", "stderr"))
    path.write_text(json.dumps(result))
    assert read_result(path)["metrics"]["accuracy"]["value"] is None


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": ' * 200_000, '"\\ud800', "nul", "9" * 10_000, "\ufeff{}"])
def test_nasty_json_is_damaged(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises((Damaged, BadInput)) as raised:
        read_result(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "no sample"), ("[]", "it is not an object"), ('{"id": 3}', "id is not text"), ("[" * 100_000, "no sample")],
)
def test_samples_that_are_none(path: Path, line: str, says: str) -> None:
    file = path.parent / "toy.samples.jsonl"
    file.write_text(file.read_text() + line + "\n")
    edit(path, "samples/sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(Damaged, match=says) as raised:
        list(read_samples(path, read_result(path)))
    assert "toy.samples.jsonl:9: " in str(raised.value)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path.parent / "toy.sums.npz") as file:
        return dict(file)


def replaced(path: Path, data: bytes) -> None:
    (path.parent / "toy.sums.npz").write_bytes(data)
    edit(path, "sums/sha256", hashlib.sha256(data).hexdigest())


def archive(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


HOSTILE: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], str]] = {
    "no samples": (lambda a: a.pop("samples"), "samples"),
    "a sample twice": (lambda a: a.update(samples=np.array(["s"] * 8)), "samples are not different names"),
    "samples that are numbers": (lambda a: a.update(samples=np.arange(8)), "samples are not different names"),
    "samples too many": (lambda a: a.update(samples=np.array(list("abcdefghi"))), "9 samples, clusters of 8"),
    "clusters out of range": (lambda a: a["cluster"].__setitem__(3, 5), "cluster is out of range"),
    "clusters below 0": (lambda a: a["cluster"].__setitem__(3, -1), "cluster is out of range"),
    "clusters as fractions": (lambda a: a.update(cluster=a["cluster"] / 2), "cluster is out of range"),
    "rows out of range": (lambda a: a["rows0"].__setitem__(7, 8), "rows0 is out of range"),
    "rows below 0": (lambda a: a["rows0"].__setitem__(7, -1), "rows0 is out of range"),
    "a row twice": (lambda a: a["rows0"].__setitem__(7, 1), "sums0 and rows0 do not belong together"),
    "rows of clusters out of range": (lambda a: a["rows2"].__setitem__(0, 6), "rows2 is out of range"),
    "too few sums": (lambda a: a.update(sums0=a["sums0"][:5]), "sums0 and rows0 do not belong together"),
    "flat sums": (lambda a: a.update(sums0=a["sums0"].ravel()), "sums0 is not a table"),
    "narrow sums": (lambda a: a.update(sums0=a["sums0"][:, :1]), "'accuracy' needs 2 sums, its group has 1"),
    "nan": (lambda a: a["sums0"].__setitem__((0, 0), math.nan), "sums0 is not a table of finite numbers"),
    "infinity": (lambda a: a["sums2"].__setitem__((0, 0), math.inf), "sums2 is not a table of finite numbers"),
    "sums as text": (lambda a: a.update(sums0=a["sums0"].astype(str)), "sums0 is not a table"),
    "another level": (lambda a: a["levels"].__setitem__(0, 2), "levels is out of range"),
    "levels too many": (lambda a: a.update(levels=np.zeros(9, np.int8)), "levels of 9 groups, counts of 6"),
    "no groups": (lambda a: a.update(levels=a["levels"][:0], counts=a["counts"][:0]), "group 0, which is not there"),
    "counts of others": (lambda a: a["counts"].__setitem__(0, 7), "sums0 is of 8 samples, 7 samples are counted"),
    "counts beyond": (lambda a: a["counts"].__setitem__(2, 9), "9 samples are counted"),
    "a table of names": (lambda a: a.update(clusters=np.array([["c0", "c1"]])), "clusters are not different names"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_sums_that_do_not_hold_together(path: Path, name: str) -> None:
    change, says = HOSTILE[name]
    arrays = arrays_of(path)
    change(arrays)
    replaced(path, archive(arrays))
    with pytest.raises(Damaged, match="its sums cannot be read") as raised:
        read_sums(path, read_result(path))
    assert says in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_nothing_in_a_file_of_sums_is_ever_run(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "bombed"
    bomb = np.array([Bomb(place), None], dtype=object)
    stream = io.BytesIO()
    np.save(stream, bomb, allow_pickle=True)
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as file:
        for name in arrays_of(path):
            file.writestr(f"{name}.npy", stream.getvalue())
    for data in (forged.getvalue(), stream.getvalue(), pickle.dumps(Bomb(place)), archive({"samples": bomb})):
        replaced(path, data)
        with pytest.raises(Damaged, match="its sums cannot be read"):
            read_sums(path, read_result(path))
    assert not place.exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x05\x06" + b"\0" * 18, b"\x93NUMPY\x01\0v\0{}", b"not at all\n" * 50, b"\x93NUMPY\x01\0"]
)
def test_no_archive_at_all(path: Path, data: bytes) -> None:
    replaced(path, data)
    with pytest.raises(Damaged, match="its sums cannot be read"):
        read_sums(path, read_result(path))


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = sum(array.nbytes for array in arrays_of(path).values())
    monkeypatch.setattr("mmalign_eval.sums_file.LARGEST", unpacked)  # there are headers beside
    with pytest.raises(Damaged, match="bytes unpacked"):
        read_sums(path, read_result(path))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_are_damaged_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    sums = sums_of(METRICS[:3], ROWS)
    whole_file = bytearray(sums_to(sums))
    for _ in range(data.draw(st.integers(1, 4))):
        whole_file[data.draw(st.integers(0, len(whole_file) - 1))] = data.draw(st.integers(0, 255))
    described = {
        n: {"group": m.group, "formula": m.formula, "proportion": m.proportion} for n, m in sums.metrics.items()
    }
    try:
        sums_from(bytes(whole_file), described, "here")
    except Damaged as error:
        said = str(error)
    else:
        said = ""
    assert len(said.splitlines()) < 2


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("group", 6, "'accuracy' is made of group 6, which is not there"),
        ("group", -1, "'accuracy' is made of group -1, which is not there"),
        ("formula", "s[0] / s[2]", "'accuracy' needs 3 sums, its group has 2"),
        ("formula", "__import__('os')", "not a formula"),
        ("formula", "", "not a formula"),
    ],
)
def test_metrics_that_do_not_belong_to_the_sums(path: Path, key: str, value: Any, says: str) -> None:
    edit(path, f"metrics/accuracy/{key}", value)
    with pytest.raises(Damaged) as raised:
        read_sums(path, read_result(path))
    assert says in str(raised.value)


def test_some_metrics_alone(path: Path) -> None:
    result = read_result(path)
    some, everything = read_sums(path, result, ["both", "odds"]), read_sums(path, result)
    assert list(some.metrics) == ["both", "odds"]
    assert len(some.groups) == 2
    for name, made in some.metrics.items():
        group, other = some.groups[made.group], everything.groups[everything.metrics[name].group]
        assert (group.level, group.n, made.formula) == (other.level, other.n, everything.metrics[name].formula)
        assert np.array_equal(group.sums, other.sums)


def test_an_empty_result_can_be_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, "model", "toy", METRICS[:3], [], failed=["a", "b"])
    sums = read_sums(path, read_result(path))
    assert (sums.samples, sums.clusters, [g.n for g in sums.groups]) == ([], [], [0, 0, 0])
    assert [row["status"] for row in read_samples(path, read_result(path))] == ["error", "error"]


def test_sums_are_small(tmp_path: Path) -> None:
    """As many questions as the largest yes/no benchmark of the package: 9,000 on 500 images, five metrics a part."""
    rng = np.random.default_rng(0)
    rows = records(rng.integers(0, 2, 9000), clusters=[i // 18 for i in range(9000)])
    parts = [lambda r, p=p: int(r["id"][1:]) % 3 == p for p in range(3)]
    metrics = [mean(f"{i}/{k}", "x", keep=part) for i, part in enumerate(parts) for k in "a"]
    pairs = [
        Metric(f"{i}/{k}", lambda rows: [sum(r["x"] for r in rows), len(rows), 0, 0], Formula("s[0]"), keep=part)
        for i, part in enumerate(parts)
        for k in range(4)
    ]
    path = write_run(tmp_path, "model", "toy", [*metrics, *pairs], rows)
    assert (path.parent / "toy.sums.npz").stat().st_size < 300_000


def test_a_run_can_be_moved(path: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(path.parent, tmp_path / "elsewhere")) / path.name
    assert same(read_sums(moved, read_result(moved)), sums_of(METRICS, ROWS))
