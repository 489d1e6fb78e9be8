"""`mmeval lab`: arms that can be made, commands that exist, settings fixed before judging, a smoke run of it all."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from mmalign_eval.tuning.config import load_recipe

from mmalign_eval.cli.main import app, main
from mmalign_eval.errors import BadInput
from mmalign_eval.lab import arms, record
from mmalign_eval.lab.arms import Scale, digest, load
from mmalign_eval.lab.arms import fixed as fixed_files
from mmalign_eval.lab.plan import MAKE, RECIPES, steps_of
from mmalign_eval.lab.steps import check, wanted
from mmalign_eval.leaderboard.laboratory import SEED

ROOT = Path(__file__).parent.parent.parent
SIZES = ("smoke", "lab", "full")


def scale(size: str) -> Scale:
    return load().scales[size]  # type: ignore[index]


@pytest.mark.parametrize("size", SIZES)
def test_steps_can_be_done_in_order(size: str) -> None:
    steps = steps_of(load(), scale(size))
    check(steps)
    assert all(step.command[0] in ("mmalign_eval", MAKE) for step in steps)
    outs = [step.command[step.command.index("--out") + 1] for step in steps if step.name.startswith("tune/")]
    assert len(outs) == len(set(outs))


@pytest.mark.parametrize("size", SIZES)
def test_no_two_runs_write_results_of_one_model_at_once(size: str) -> None:
    """`mmeval run` refuses the second of them; steps that do not wait for each other may be at work together."""
    steps = steps_of(load(), scale(size))
    by_model: dict[str, list[str]] = {}
    for step in steps:
        if step.command[1] == "run":
            by_model.setdefault(step.command[step.command.index("--model") + 1], []).append(step.name)
    assert any(len(names) > 1 for names in by_model.values())
    for names in by_model.values():
        for before, after in itertools.pairwise(names):
            assert before in {step.name for step in wanted(steps, [after])}


def test_three_seeds_of_what_is_claimed_about() -> None:
    names = {step.name for step in steps_of(load(), scale("full"))}
    for arm in ("mm-ft", "mm-lora", "sft", "self-generated", "bpo", "bpo-plus"):
        assert {f"tune/{arm}-s{seed}" for seed in range(3)} <= names


def test_every_recipe_takes_its_changes() -> None:
    for step in steps_of(load(), scale("lab")):
        if step.name.startswith("tune/"):
            given = list(step.command)
            sets = [given[i + 1] for i, word in enumerate(given) if word == "--set"]
            changes = dict(change.split("=", 1) for change in sets)
            recipe = load_recipe(given[given.index("--recipe") + 1], changes)
            assert recipe.method == given[2]


def test_every_option_exists() -> None:
    """The commands are parsed as the command line parses them, without being run."""
    root = typer.main.get_command(app)
    for step in steps_of(load(), scale("lab")):
        if step.command[0] != "mmalign_eval":
            continue
        verb, *rest = step.command[1:]
        command = root.commands[verb]  # type: ignore[attr-defined]
        if verb == "tune":
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(step.name, list(rest))


def test_the_page_asks_for_models_that_the_laboratory_makes() -> None:
    made = {"mini", "mini-lm"}
    for arm in load().prefer:
        made.add(f"mini+{arm.name}")
    for one in load().instruct:
        made |= {f"mini-lm+{one.name}", f"mm-ft.stage1+{one.name}"} if one.lora else {one.name}
    made |= {f"mini+features-{noise}-std" for noise in load().weakening}
    spec = yaml.safe_load((ROOT / "leaderboards/laboratory.yaml").read_text(encoding="utf-8"))
    asked = {row["model"] for table in spec["tables"] for row in table["rows"]}
    asked |= {test[side] for claim in spec["claims"] for test in claim["tests"] for side in ("base", "other")}
    asked |= {model for curve in spec["curves"] for line in curve["lines"].values() for _, model in line}
    assert asked <= made
    logs = {SEED.sub("", one["model"]) for one in spec["training"]}
    assert logs <= {arm.name for arm in load().prefer}


def test_arms_are_registered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "commit", lambda: "abc")
    found = record.register(tmp_path)
    assert found["commit"] == "abc"
    assert found["arms"] == digest()
    assert record.register(tmp_path) == found
    monkeypatch.setattr(record.arms, "digest", lambda: "other")
    with pytest.raises(BadInput, match="registered with other arms \\(commit abc\\)"):
        record.register(tmp_path)


def test_uncommitted_arms_are_not_judged(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    fixed = [tmp_path / "arms.yaml", tmp_path / "recipes.yaml"]
    for file in fixed:
        file.write_text("1")
    with pytest.raises(BadInput, match="not committed"):
        record.commit(fixed)
    git("add", ".")
    git("commit", "-m", "arms")
    last = record.commit(fixed)
    assert len(last) == 40
    (tmp_path / "other.txt").write_text("1")
    assert record.commit(fixed) == last
    fixed[1].write_text("2")
    with pytest.raises(BadInput, match="not committed .*recipes.yaml"):
        record.commit(fixed)


def test_all_that_decides_an_arm_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [file.name for file in fixed_files()]
    used = {f"{recipe}.yaml" for recipe in (*RECIPES.values(), *(arm.recipe for arm in load().instruct))}
    assert {*used, "arms.yaml", "scenes.py", "world.py", "inject.py", "laboratory.yaml"} <= set(names)
    before, copies = digest(), [tmp_path / name for name in names]
    for file, copy in zip(fixed_files(), copies, strict=True):
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(arms, "fixed", lambda: copies)
    assert digest() == before
    for copy in copies:
        content = copy.read_bytes()
        copy.write_bytes(content + b" ")
        assert digest() != before, copy.name
        copy.write_bytes(content)


def test_an_unknown_arm_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--only", "bpoo", "--plan"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_the_plan_is_of_the_size_and_scenes_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed = {}
    for options in ((), ("--full",), ("--choose",)):
        assert main(["lab", "--plan", "--out", str(tmp_path / "none"), *options]) == 0
        printed[options] = capsys.readouterr().out
    assert "--seed 2" in printed["--full",]
    assert "--seed 2" not in printed[()]
    assert "data choose" in printed["--choose",]
    assert "data judge" not in printed["--choose",]
    assert main(["lab", "--full", "--smoke"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every kind of step, trained for two steps: files and page, no effect."""
    lab, board = tmp_path / "lab", tmp_path / "board"
    assert main(["lab", "--smoke", "--out", str(lab)]) == 0, capsys.readouterr().err
    facts = json.loads((lab / "results/laboratory.json").read_text())
    assert facts["judged"] is False
    assert (lab / "results/training/bpo-s0.jsonl").exists()
    assert main(["leaderboard", "add", str(lab / "results"), "--as", "lab", "--root", str(board), "--force"]) == 0
    assert main(["leaderboard", "--root", str(board)]) == 0
    page = (board / "miniature.md").read_text(encoding="utf-8")
    assert "proves nothing about real models" in page.split("##")[0]
    assert "no claim is tested" in page
    assert "confirmed." not in page
    assert "refuted." not in page
    assert "BPO (weakened and injected)" in page
    assert main(["leaderboard", "--root", str(board), "--check"]) == 0
    capsys.readouterr()
    assert main(["lab", "--smoke", "--out", str(lab)]) == 0  # nothing is done again
    assert "tune/" not in capsys.readouterr().out
