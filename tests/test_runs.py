"""Opening result files: what is damaged is told in a line each and the others are still there; rows tell what was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.errors import BadInput, Damaged, PluginError
from mmalign_eval.metrics.base import mean
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Choose, ImageRef, Prompt, Response
from mmalign_eval.runs import by_model, open_runs
from mmalign_eval.scoring import REFERENCE, row, summarize
from mmalign_eval.task import Sample
from tests.support_results import records, write_run

METRICS = [mean("accuracy", "x", proportion=True), mean("other", "x")]


def written(folder: Path, model: str = "m", task: str = "toy", **facts: Any) -> Path:
    return write_run(folder, model, task, METRICS, records([1, 0, 1]), **facts)


def test_runs_say_what_they_are(tmp_path: Path) -> None:
    plain = written(tmp_path, headline=["other", "gone"])
    judged = written(tmp_path, task="talk", protocol="paper", judge="gpt", source="miniature")
    runs, problems = open_runs(tmp_path)
    assert problems == []
    talk, toy = sorted(runs, key=lambda run: run.task)
    assert (toy.path, toy.model, toy.task, toy.key, toy.label) == (plain, "m", "toy", ("toy", "official", ""), "toy")
    assert (toy.headline, toy.miniature) == (["other"], False)
    assert (talk.path, talk.label, talk.key) == (judged, "talk@paper+gpt", ("talk", "paper", "gpt"))
    assert (talk.headline, talk.miniature) == (["accuracy", "other"], True)
    assert toy.sums.samples == [sample["id"] for sample in toy.samples()] == ["s000", "s001", "s002"]


def sums_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.sums.npz")


def schema(number: int) -> Callable[[Path], Any]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "schema": number}))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "half": (lambda p: p.write_text(p.read_text()[:200]), "damaged result file"),
    "empty": (lambda p: p.write_text(""), "damaged result file"),
    "older": (schema(1), "result schema 1, this version reads 2: run the same command again, its answers are kept"),
    "newer": (schema(99), "result schema 99, this version reads 2: use a newer mmeval"),
    "no sums": (lambda p: sums_of(p).unlink(), "toy.sums.npz: missing; run the same command again"),
    "cut": (lambda p: sums_of(p).write_bytes(sums_of(p).read_bytes()[:99]), "toy.sums.npz: changed or truncated"),
    "not text": (lambda p: p.write_bytes(b"\xff\xfe"), "damaged result file"),
}


def test_what_is_damaged_is_told_in_a_line_each_and_the_others_come(tmp_path: Path) -> None:
    for name, (damage, _) in DAMAGE.items():
        damage(written(tmp_path / "out", model=name))
    good = [written(tmp_path / "out", model=name) for name in ("a", "z")]
    runs, problems = open_runs(tmp_path / "out")
    assert [run.path for run in runs] == good
    assert len(problems) == len(DAMAGE)
    for name, (_, says) in DAMAGE.items():
        (line,) = [line for line in problems if f"/{name}/" in line]
        assert says in line
        assert len(line.splitlines()) == 1
        assert open_runs(tmp_path / "out" / name) == ([], [line])  # nothing else there: still told, not "no result"


def test_samples_are_looked_at_only_when_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.with_name("toy.samples.jsonl").unlink()
    (run,), problems = open_runs(tmp_path)
    assert problems == []
    with pytest.raises(Damaged, match="toy.samples.jsonl: missing"):
        list(run.samples())


def test_other_json_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path)
    for name, text in (("config.json", "{}"), ("list.json", "[1]"), ("scores.json", '{"accuracy": 0.5}')):
        (path.parent / name).write_text(text)
    (path.parent / ".half.json").write_text("{")
    runs, problems = open_runs(tmp_path)
    assert ([run.path for run in runs], problems) == ([path], [])
    with pytest.raises(BadInput, match=r"config\.json: not a result file of mmeval"):
        open_runs(path.parent / "config.json")


def test_places_without_results(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    for name, says in (("none", "no such file or folder"), ("empty", "no result file"), ("foreign", "no result file")):
        with pytest.raises(BadInput, match=says):
            open_runs(written(tmp_path / "good").parent, tmp_path / name)


def test_what_was_scored_anew_is_left_out_unless_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    anew = written(path.parent, model="rescored")
    assert [run.path for run in open_runs(tmp_path)[0]] == [path]
    assert [run.path for run in open_runs(anew.parent)[0]] == [anew]
    assert [run.path for run in open_runs(path, anew)[0]] == [path, anew]


def test_two_models_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, model=model) for name, model in (("a", "m"), ("b", "m"), ("b", "n"))]
    runs, _ = open_runs(tmp_path)
    names = by_model(runs)
    assert list(names) == [f"m ({paths[0].parent})", f"m ({paths[1].parent})", "n"]


class Quiz:
    """Just enough of a task to make a row."""

    name, judge = "quiz", None

    def __init__(self, *right: Response) -> None:
        self.right = right

    def right_answer(self, sample: Sample) -> tuple[Response, ...]:
        return self.right

    def record(self, sample: Sample, answers: Any) -> dict[str, Any]:
        return {}


def reference(right: list[Response], requests: list[Any] | None = None) -> str:
    answers = [Response("ok", text="x") for _ in right]
    made = row(Quiz(*right), Sample("1", {}), answers, requests or [])  # type: ignore[arg-type]
    assert made["judged"] == []
    return str(made["reference"])


def choose(*options: str) -> Choose:
    return Choose(Prompt("?"), options)


def likely(*logprobs: float) -> Response:
    return Response("ok", logprobs=logprobs)


def test_the_reference_is_what_a_right_model_says() -> None:
    said = Response("ok", text=" yes\n")
    assert reference([said]) == "yes"
    assert reference([likely(-3, -1, -2)], [choose(" A", " B", " C")]) == "B"
    assert reference([said, said, Response("ok", text="no")]) == "yes\nno"
    one, none = likely(-1), Response("ok", text="")
    ask = choose("?")  # stands for any request that is not a choice between several
    assert reference([said, one], [ask, choose(" nothing")]) == "yes"
    assert reference([none, one], [ask, choose(" nothing")]) == "nothing"
    assert reference([Response("ok", text="é" * 5000)]) == "é" * REFERENCE + " …"


def test_rows_say_where_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refs = (ImageRef("a/b.jpg"), ImageRef(str(tmp_path / "c.arrow"), 3, "image", ("corrupt:fog:1:7",)))
    made = row(Quiz(Response("ok", text="y")), Sample("1", {}, refs), [Response("ok", text="x")])  # type: ignore[arg-type]
    assert json.loads(json.dumps(made["images"])) == [
        {"path": str(tmp_path / "a/b.jpg"), "row": -1, "column": "", "transforms": []},
        {"path": str(tmp_path / "c.arrow"), "row": 3, "column": "image", "transforms": ["corrupt:fog:1:7"]},
    ]


IMAGELESS = {"text"}


@pytest.mark.parametrize("name", TASKS.names())
def test_references_of_the_miniature_are_short_texts(name: str) -> None:
    from mmalign_eval.data.source import DataChoice
    from mmalign_eval.plan import open_task, plan_task

    task = open_task(name, "")
    plan = plan_task(task, DataChoice("mini"), 12, seed=0)
    found = set()
    for sample, requests in zip(plan.samples, plan.requests, strict=True):
        made = row(task, sample, list(task.right_answer(sample)), requests)
        assert made["reference"].strip() == made["reference"]
        assert 0 < len(made["reference"]) <= REFERENCE
        assert bool(made["images"]) == (task.modality not in IMAGELESS)
        assert all(Path(image["path"]).is_file() for image in made["images"])
        found.add(made["reference"])
    assert len(found) > 1


def test_two_records_of_one_name_are_the_plugins_mistake() -> None:
    class Same(Quiz):
        def finish(self, records: Any) -> None:
            pass

        def metrics(self) -> list[Any]:
            return METRICS

    with pytest.raises(PluginError, match="task quiz calls two samples 's000'"):
        summarize(Same(), [*records([1, 0]), *records([1])])  # type: ignore[arg-type]
