"""`mmeval tune bpo` as people run it: what it refuses, and what it leaves them with; two processes are one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmalign_eval.tuning import workplace
from safetensors.torch import load_file
from torch import allclose

from mmalign_eval.cli.main import main
from mmalign_eval.miniature.nano import make_causal_lm

from .bpo_support import make_world

QUICK = ["tune.batch=4", "tune.micro_batch=2", "lora.r=4", "tune.log_every=1", "tune.max_length=200"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("cli"))


def command(world: Path, out: Path, *more: str, recipe: str = "mini-bpo", **changed: str) -> list[str]:
    given = {"model": "llava", "pairs": "pairs.json", "images": "images"}
    paths = [part for name, file in given.items() for part in (f"--{name}", changed.get(name) or str(world / file))]
    return ["tune", "bpo", *paths, "--out", str(out), "--recipe", recipe, *more]


def sets(*values: str) -> list[str]:
    return [part for value in (*QUICK, *values) for part in ("--set", value)]


def test_from_pairs_to_a_line_that_scores(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned"
    assert main(command(world, out, *sets("tune.max_steps=3"), "--seed", "4")) == 0
    captured = capsys.readouterr()
    assert f"score   mmeval run --model hf:{world / 'llava'},adapter={out} --tasks pope,truthfulqa" in captured.out
    for line in ("pairs   16 read, 14 train, 2 held out", "reference 14/14 pairs", "step     3/3", "held out 3/3"):
        assert line in captured.err
    assert "chosen log-probability of held-out pairs" in captured.err
    assert re.search(r"step     2/3 .* steps/s  0:00:\d\d left\n", captured.err)
    assert json.loads((out / "mmeval.json").read_text(encoding="utf-8"))["tuned"]["seed"] == 4
    assert main(command(world, out, *sets("tune.max_steps=3"), "--seed", "4")) == 0
    assert "is there already" in capsys.readouterr().err
    scored = [
        "run",
        "--model",
        f"hf:{world / 'llava'},adapter={out}",
        "--tasks",
        "pope",
        "--limit",
        "2",
        "--data",
        "mini",
    ]
    assert main([*scored, "--out", str(tmp_path / "results")]) == 0
    assert "images" in capsys.readouterr().out  # the training's images were compared with the task's


def test_the_miniature_is_scored_by_its_name(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned"
    assert main(command(world, out, *sets("tune.max_steps=1"), model="mini")) == 0
    assert f"score   mmeval run --model mini,adapter={out} --tasks pope,truthfulqa" in capsys.readouterr().out
    merged = tmp_path / "merged"
    assert main(command(world, merged, *sets("tune.max_steps=1"), "--merge", model="mini")) == 0
    assert f"score   mmeval run --model hf:{merged} --tasks pope,truthfulqa" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "changed", "said"),
    [
        ((), {"recipe": "mini-bop"}, "unknown recipe 'mini-bop' - did you mean 'mini-bpo'?"),
        ((), {"recipe": "mini-sft"}, "recipe mini-sft is of method sft: choose one of method bpo"),
        (("--set", "preference.bta=1"), {}, "unknown key preference.bta - did you mean 'beta'?"),
        (("--set", "tune.lr"), {}, "--set tune.lr: expected KEY=VALUE"),
        (("--set", "tune.micro_batch=5"), {}, "batch 16 is no multiple of micro_batch 5"),
        (("--set", "data.samples=99"), {}, "data.samples=99: only 14 pairs are left"),
        (("--set", "tune.max_length=20"), {}, "no pair is left to train on: 16 read"),
        ((), {"pairs": "none.json"}, "none.json: cannot be read: No such file"),
        ((), {"images": "none"}, "--images none: no such folder"),
        ((), {"model": "none"}, "none"),
        ((), {"model": "LM"}, "not a LLaVA"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], changed: dict[str, str],
    said: str,
) -> None:  # fmt: skip
    if changed.get("model") == "LM":
        changed = {"model": str(make_causal_lm(tmp_path / "lm"))}
    out = tmp_path / "out"
    assert main(command(world, out, *more, **changed)) == 2
    captured = capsys.readouterr().err
    last = captured.strip().splitlines()[-1]
    assert last.startswith("mmeval: ")
    assert said in last
    assert not out.exists()
    assert "step" not in captured


def test_a_missing_and_a_corrupt_image_are_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(world / "images", images)
    (images / "3.png").write_bytes(b"no image")
    assert main(command(world, tmp_path / "out", *sets(), images=str(images))) == 2
    assert "3.png cannot be decoded" in capsys.readouterr().err
    (images / "3.png").unlink()
    assert main(command(world, tmp_path / "out", *sets(), images=str(images))) == 2
    assert "1 of 8 images are not in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_trainings_work_folder_is_left_alone(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, diverges = tmp_path / "out", sets("tune.lr=1e30", "tune.max_grad_norm=0", "tune.warmup=0", "tune.save_every=1")
    assert main(command(world, out, *diverges)) == 2
    assert "lower learning rate" in capsys.readouterr().err
    assert main(command(world, out, *sets())) == 2
    assert "an unfinished training of something else is there (differs in recipe." in capsys.readouterr().err
    assert not out.exists()


def test_too_little_room(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workplace.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    assert main(command(world, tmp_path / "out", *sets())) == 2
    assert "about 0.1 GB needed there, 0.0 GB free" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_are_one(world: Path, tmp_path: Path) -> None:
    results = {}
    steps = sets("tune.max_steps=4", "tune.micro_batch=2", "tune.lr=1e-2", "tune.eval_every=2", "data.held_out=0.3")
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        ran = subprocess.run(
            [*start, "-m", "mmalign_eval", *command(world, out, *steps)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        log = (out / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        results[count] = ([json.loads(line) for line in log], load_file(out / "adapter_model.safetensors"))
        assert ran.stderr.count("held out 4/4") == 1
        assert ran.stdout.count("score   mmeval run") == 1
    (one_log, one), (two_log, two) = results[1], results[2]
    assert [row["step"] for row in one_log] == [row["step"] for row in two_log]
    for single, double in zip(one_log, two_log, strict=True):
        assert single.keys() == double.keys()
        for name, value in single.items():
            assert abs(double[name] - value) <= 2e-5 * max(1.0, abs(value)), name
    assert one.keys() == two.keys()
    assert all(allclose(two[name], value, rtol=1e-3, atol=1e-5) for name, value in one.items())
