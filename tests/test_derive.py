"""Tasks made of tasks: other images, the same questions, and names that are checked at once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmalign_eval
from mmalign_eval import derive
from mmalign_eval.cli.main import main
from mmalign_eval.cli.names import split_names
from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.plan import TaskPlan, base_name, open_task, plan_task
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import ImageRef
from mmalign_eval.results import read_result, result_stem
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.store import request_key
from mmalign_eval.task import Sample, Task

from .toy import isolate_registry, make_toy

FORMS = ["blank(toy)", "shuffle(toy)", "noise(toy,500)", "corrupt(toy,gaussian_noise,3)", "corrupt(toy,contrast,3)"]
MINI = DataChoice("mini")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy task, registered, with images that a corruption takes; the folder of its data."""
    isolate_registry(monkeypatch)
    plugin, data = make_toy(tmp_path)
    rng = np.random.default_rng(0)
    for path in (data / "images").glob("*.png"):
        Image.fromarray(rng.integers(0, 256, (40, 33, 3), dtype=np.uint8)).save(path)
    TASKS.include(str(plugin))
    return data


def planned(name: str, data: Path | str, limit: int | None = None) -> TaskPlan:
    return plan_task(open_task(name), DataChoice(str(data)), limit, seed=0)


def keys(plan: TaskPlan) -> list[str]:
    return [request_key("model", request) for request in plan.flat]


def shown(plan: TaskPlan) -> list[bytes]:
    return [open_image(request.prompt.images[0]).tobytes() for request in plan.flat]


@pytest.mark.parametrize("name", FORMS)
def test_the_images_change_and_nothing_else(toy: Path, name: str) -> None:
    base, plan = planned("toy", toy), planned(name, toy)
    assert plan.task.name == name
    assert [s.id for s in plan.samples] == [s.id for s in base.samples]
    assert [s.data for s in plan.samples] == [s.data for s in base.samples]
    assert [s.cluster for s in plan.samples] == [s.cluster for s in base.samples]
    assert [r.prompt.text for r in plan.flat] == [r.prompt.text for r in base.flat]
    assert not set(keys(plan)) & set(keys(base)), "an answer about another image would be taken from the store"
    assert all(a != b for a, b in zip(shown(plan), shown(base), strict=True))
    assert isinstance(plan.task, type(base.task))
    assert [m.name for m in plan.task.metrics()] == [m.name for m in base.task.metrics()]
    assert list(plan.task.protocols) == list(base.task.protocols)


@pytest.mark.parametrize("name", FORMS)
def test_limit_and_order_change_no_picture(toy: Path, name: str) -> None:
    whole = dict(zip((s.id for s in planned(name, toy).samples), keys(planned(name, toy)), strict=True))
    few = planned(name, toy, limit=3)
    assert [s.id for s in few.samples] == ["s0", "s1", "s2"]
    assert keys(few) == [whole[s.id] for s in few.samples]
    lines = (toy / "toy.jsonl").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (toy / "toy.jsonl").write_text("\n".join(lines) + "\n")
    again = planned(name, toy)
    assert [s.id for s in again.samples] != list(whole)
    assert dict(zip((s.id for s in again.samples), keys(again), strict=True)) == whole


@pytest.mark.parametrize("name", FORMS)
def test_another_folder_changes_no_picture(toy: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "moved"
    before = keys(planned(name, toy))
    toy.rename(elsewhere)
    assert keys(planned(name, elsewhere)) == before


def test_one_image_has_one_corruption(toy: Path) -> None:
    """However many samples ask about it, so that what they share is computed once; other images have others."""
    plan = planned("corrupt(toy,gaussian_noise,3)", toy)
    seeds: dict[str, set[str]] = {}
    for sample in plan.samples:
        seeds.setdefault(sample.images[0].path, set()).update(sample.images[0].transforms)
    assert len(seeds) == 8
    assert all(len(found) == 1 for found in seeds.values())
    assert len({next(iter(found)) for found in seeds.values()}) == 8


def test_shuffle_shows_every_image_once_and_never_its_own(toy: Path) -> None:
    base, plan = planned("toy", toy), planned("shuffle(toy)", toy)
    partner = {}
    for old, new in zip(base.samples, plan.samples, strict=True):
        partner.setdefault(digest(old.images[0]), set()).add(digest(new.images[0]))
    assert all(len(found) == 1 for found in partner.values()), "one image, two partners"
    pairs = {old: next(iter(found)) for old, found in partner.items()}
    assert len(pairs) == 8
    assert set(pairs.values()) == set(pairs)
    assert all(old != new for old, new in pairs.items())


def test_shuffle_knows_equal_images_by_their_bytes(toy: Path) -> None:
    """Two files of the same picture: neither is the other's partner."""
    (toy / "images" / "1.png").write_bytes((toy / "images" / "0.png").read_bytes())
    base, plan = planned("toy", toy), planned("shuffle(toy)", toy)
    assert all(a != b for a, b in zip(shown(plan), shown(base), strict=True))


def test_shuffle_of_a_single_image_is_refused(toy: Path) -> None:
    for i in range(1, 8):
        (toy / "images" / f"{i}.png").write_bytes((toy / "images" / "0.png").read_bytes())
    with pytest.raises(BadInput, match=r"shuffle\(toy\): there is no other image"):
        planned("shuffle(toy)", toy)


class Many(Task):
    """Several images a sample, or none."""

    name, version, modality, protocols, default_protocol = "many", 1, "image", {"official": None}, "official"  # type: ignore[assignment, dict-item]

    def samples(self, source: Source) -> Iterator[Sample]:
        root = Path(source.path)
        first, second, third = (ImageRef(str(root / f"{i}.png"), transforms=(f"t{i}",)) for i in range(3))
        yield Sample("none", {})
        yield Sample("two", {}, (first, second))
        yield Sample("three", {}, (third, first, third))

    requests = record = metrics = right_answer = lambda self, *a: ()  # type: ignore[assignment]


def test_samples_with_several_images_and_with_none(toy: Path) -> None:
    source = Source("dir", str(toy / "images"))
    old = list(Many().samples(source))
    for change in (derive.blank, derive.shuffle, lambda task: derive.noise(task, 10)):
        new = list(change(Many)().samples(source))
        assert [len(s.images) for s in new] == [0, 2, 3]
    shuffled = list(derive.shuffle(Many)().samples(source))
    for a, b in zip(old, shuffled, strict=True):
        assert all(x.path != y.path and x.transforms == y.transforms for x, y in zip(a.images, b.images, strict=True))
    assert shuffled[2].images[0] == shuffled[2].images[2]


def test_transforms_come_before_the_protocol_s_own(toy: Path) -> None:
    plan = plan_task(open_task("blank(corrupt(pope,contrast,3))", "paper"), MINI, 1, seed=0)
    assert plan.flat[0].prompt.images[0].transforms == ("corrupt:contrast:3:0", "blank", "center_crop")


def test_nested(toy: Path) -> None:
    plan = planned("shuffle(corrupt(toy,pixelate,5))", toy)
    assert plan.task.name == "shuffle(corrupt(toy,pixelate,5))"
    moved, still = planned("shuffle(toy)", toy), planned("corrupt(toy,pixelate,5)", toy)
    for one, a, b in zip(plan.samples, moved.samples, still.samples, strict=True):
        assert one.images[0].path == a.images[0].path
        assert one.images[0].transforms == b.images[0].transforms
    assert base_name(plan.task.name) == "toy"


def test_python_api(toy: Path) -> None:
    assert mmalign_eval.corrupt("toy", "fog", 3).name == "corrupt(toy,fog,3)"
    assert mmalign_eval.blank(mmalign_eval.shuffle("toy")).name == "blank(shuffle(toy))"
    assert mmalign_eval.noise(TASKS.get("toy"), 900).name == "noise(toy,900)"
    assert mmalign_eval.noise("blank(toy)", 900).name == "noise(blank(toy),900)"
    with pytest.raises(BadInput, match="unknown corruption 'fogg' - did you mean 'fog'"):
        mmalign_eval.corrupt("toy", "fogg", 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blnk(toy)", "unknown 'blnk' - did you mean 'blank'"),
        ("blank(toyy)", "unknown task 'toyy' - did you mean 'toy'"),
        ("blank(toy,3)", "expected blank(TASK)"),
        ("blank(truthfulqa)", "task truthfulqa shows no images"),
        ("shuffle(blank(truthfulqa))", "task truthfulqa shows no images"),
        ("noise(lm_eval:arc_easy,3)", "lm_eval:arc_easy shows no images"),
        ("corrupt(toy,contrst,3)", "unknown corruption 'contrst' - did you mean 'contrast'"),
        ("corrupt(toy,contrast,6)", "severity 6: expected 1 to 5"),
        ("corrupt(toy,contrast,three)", "severity 'three': expected a whole number"),
        ("corrupt(toy,contrast,03)", "severity '03': expected a whole number"),
        ("corrupt(toy,contrast)", "expected corrupt(TASK,KIND,SEVERITY)"),
        ("noise(toy)", "expected noise(TASK,STEP)"),
        ("noise(toy,1000)", "noise of step 1000: expected 0"),
        ("blank()", "not a task made of another"),
        ("(toy)", "not a task made of another"),
        ("blank(toy))", "not a task made of another"),
    ],
)
def test_wrong_names_are_one_line(toy: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_task(TASKS.resolve([name])[0])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_task_inside_is_refused_when_names_are_resolved() -> None:
    with pytest.raises(BadInput, match="unknown task 'popee' - did you mean 'pope'"):
        TASKS.resolve(["blank(corrupt(popee,fog,3))"])
    assert TASKS.resolve(["blank( pope )", "blank(pope)"]) == ["blank(pope)"]


def test_answers_made_elsewhere_are_refused(toy: Path) -> None:
    task = open_task("blank(pope)")
    assert task.submission == ""
    with pytest.raises(BadInput, match=r"task blank\(pope\) reads no answer files"):
        task.submitted(AnswerFiles({}), MINI.source("pope"))


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["a,b", " c "], ["a", "b", "c"]),
        (["blank(a),shuffle(b)"], ["blank(a)", "shuffle(b)"]),
        (["corrupt(a,fog,3),b,"], ["corrupt(a,fog,3)", "b"]),
        (["noise(corrupt(blank(a),fog,3),7),b"], ["noise(corrupt(blank(a),fog,3),7)", "b"]),
        (["corrupt(a,fog,3)=paper,x=y"], ["corrupt(a,fog,3)=paper", "x=y"]),
    ],
)
def test_commas_inside_parentheses_belong_to_the_name(texts: list[str], names: list[str]) -> None:
    assert split_names(texts) == names


def test_result_files_are_named_readably_and_differ() -> None:
    names = [
        *("pope", "blank(pope)", "corrupt(pope,fog,3)", "corrupt(pope,fog,1)", "shuffle(pope)", "noise(pope,3)"),
        *(
            "blank(corrupt(pope,fog,3))",
            "corrupt(blank(pope),fog,3)",
            "shuffle(noise(pope,3))",
            "noise(shuffle(pope),3)",
        ),
    ]
    stems = [result_stem(name, protocol, "official") for name in names for protocol in ("official", "paper")]
    assert len(set(stems)) == len(stems)
    assert stems[4] == "corrupt-pope-fog-3"
    assert stems[5] == "corrupt-pope-fog-3@paper"
    assert all(c.isalnum() or c in "-_@" for stem in stems for c in stem)


# --- through the command line ---


def values(path: Path) -> dict[str, float]:
    return {name: one["value"] for name, one in read_result(path)["metrics"].items()}


def answers(path: Path) -> Sequence[object]:
    return [json.loads(line)["answers"] for line in path.read_text().splitlines()]


def test_run_on_the_miniature(tmp_path: Path) -> None:
    tasks = "pope,blank(pope),shuffle(pope),corrupt(pope,contrast,5)"
    out = tmp_path / "out"
    arguments = ["run", "--model", "mini", "--tasks", tasks, "--limit", "20", "--out", str(out)]
    assert main([*arguments, "--corrupt-cache", "20MB"]) == 0
    stems = ["pope", "blank-pope", "shuffle-pope", "corrupt-pope-contrast-5"]
    assert sorted(p.stem for p in (out / "mini").glob("*.json")) == sorted(stems)
    found = [values(out / "mini" / f"{stem}.json") for stem in stems]
    assert found[0]["random/accuracy"] > found[1]["random/accuracy"], "the miniature sees nothing on grey"
    assert len({str(answers(out / "mini" / f"{stem}.samples.jsonl")) for stem in stems}) > 1
    assert read_result(out / "mini" / "corrupt-pope-contrast-5.json")["task"]["extra"] == {"imagecorruptions": "1.1.2"}
    assert list((out / "corrupt-cache").glob("*/*.ppm"))


def test_show_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "blank(pope)"]) == 0
    text = capsys.readouterr().out
    assert "blank(pope) v1" in text
    assert "its images are all grey" in text
    assert "Is there a" in text
    assert main(["tasks", "check", "shuffle(pope)", "--protocol", "official"]) == 0
    assert "shuffle(pope)  official" in capsys.readouterr().out
    assert main(["tasks", "list"]) == 0
    assert "corrupt(TASK,KIND,SEVERITY)" in capsys.readouterr().out


def test_data_belong_to_the_task_inside(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "blank(toy)", "--data", f"toy={toy}"]) == 0
    script = tmp_path / "script.yaml"
    script.write_text("- {text: 'yes'}\n")
    base = ["run", "--model", f"scripted:{script}", "--tasks", "blank(toy)", "--out", str(tmp_path / "out")]
    assert main([*base, "--data", f"toy={toy}"]) == 0
    capsys.readouterr()
    assert main([*base, "--data", f"blank(toy)={toy}"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err
    assert main([*base, "--data", f"toy={toy}", "--corrupt-cache", "lots"]) == 2
    assert "expected a size such as 5GB" in capsys.readouterr().err
