"""`mmeval tune positives`, `negatives` and `quality` from end to end, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tuning.pairs import read_pairs
from mmalign_eval.tuning.positives import load_positives

from mmalign_eval.cli.main import main
from mmalign_eval.files import write_whole
from mmalign_eval.miniature.captions import DETAIL_PROMPTS, detailed, yes_no
from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.miniature.render import draw
from mmalign_eval.miniature.world import make_scene
from mmalign_eval.store import Store
from tests.models.fault_server import FaultServer, Seen, error, ok

SCENES = 900_000_000  # nobody else's


def conversations(folder: Path, count: int) -> Path:
    """LLaVA-style rows about scenes: a description and a yes/no question each."""
    rows = []
    (folder / "images").mkdir()
    for number in range(count):
        rng, scene = random.Random(number), make_scene(SCENES + number)
        draw(scene).save(folder / "images" / f"{number}.png")
        yes = bool(number % 2)
        said = [
            ("human", f"<image>\n{DETAIL_PROMPTS[number % 3]}"),
            ("gpt", detailed(scene)),
            ("human", yes_no(rng, scene, "exist", yes)),
            ("gpt", "Yes" if yes else "No"),
        ]
        turns = [{"from": role, "value": text} for role, text in said]
        rows.append({"id": f"{number}", "image": f"{number}.png", "conversations": turns})
    file = folder / "rows.json"
    file.write_text(json.dumps(rows))
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    file = conversations(folder, 6)
    assert main(["tune", "positives", "--source", f"mini={file}", "--out", str(folder / "positives.jsonl")]) == 0
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A folder with `images/` and `positives.jsonl` of 12 turns."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def command(data: Path, model: str, *more: str, out: str = "pairs.json") -> list[str]:
    return [
        *("tune", "negatives", "--positives", str(data / "positives.jsonl"), "--images", str(data / "images")),
        *("--model", model, "--out", str(data / out), *more),
    ]


def script(data: Path, rules: list[dict[str, Any]] | None = None) -> str:
    file = data / "script.json"
    file.write_text(json.dumps(rules or [{"text": "A street scene with a dog and a bus."}]))
    return f"scripted:{file}"


def report(data: Path, out: str = "pairs.json") -> Any:
    return json.loads((data / f"{out}.report.json").read_text())


# -- end to end -------------------------------------------------------------------------------------------------------


def test_from_conversations_to_pairs_on_the_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = conversations(tmp_path, 6)
    out = tmp_path / "made" / "positives.jsonl"
    arguments = [
        "tune",
        "positives",
        "--source",
        f"mini={rows}:9",
        "--out",
        str(out),
        "--json",
        str(tmp_path / "c.json"),
    ]
    assert main(arguments) == 0
    assert "positives  9 in" in capsys.readouterr().out
    counts = json.loads((tmp_path / "c.json").read_text())["sources"]["mini"]
    assert (counts["rows"], counts["turns"], counts["drawn"]) == (6, 12, 9)
    positives = {p.id: p for p in load_positives(out)}

    out.rename(tmp_path / "positives.jsonl")
    kinds = ("--how", "weakened,self", "--max-new-tokens", "60")
    assert main(command(tmp_path, "mini", *kinds)) == 0
    printed = capsys.readouterr()
    pairs = read_pairs(tmp_path / "pairs.json")
    made = report(tmp_path)["made"]
    assert {pair.kind for pair in pairs} == {"mllm-hal", "self"}
    assert len(pairs) == made["weakened"]["pairs"] + made["self"]["pairs"]
    for of in made.values():
        assert of["asked"] == 9 == of["pairs"] + of["identical"]  # the miniature gets some yes/no right
        assert of["identical"] > 0
    for pair in pairs:
        positive = positives[pair.id.rpartition("/")[0]]
        assert (pair.prompt, pair.chosen, pair.image, pair.source) == (
            positive.prompt,
            positive.response,
            positive.image,
            "mini",
        )
        assert pair.rejected != pair.chosen
    weak = [pair for pair in pairs if pair.kind == "mllm-hal" and len(pair.chosen.split()) > 5]
    assert any(pair.rejected.startswith("The image shows a") for pair in weak)  # it speaks as it was taught to
    assert (
        f"weakened  {made['weakened']['pairs']} pairs of 9 answers: {made['weakened']['identical']} equal"
        in printed.out
    )
    assert "weakened         9/9" in printed.err

    # again: nothing is asked, the same file comes out
    before = (tmp_path / "pairs.json").read_bytes()
    assert main(command(tmp_path, "mini", *kinds)) == 0
    assert (tmp_path / "pairs.json").read_bytes() == before
    assert [of["cost"]["asked"] for of in report(tmp_path)["made"].values()] == [0, 0]

    # the other form holds the same pairs, from the same answers
    store = ("--store", str(tmp_path / "pairs.json.store.sqlite"), "--format", "trl")
    assert main(command(tmp_path, "mini", *kinds, *store, out="pairs.jsonl")) == 0
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs

    capsys.readouterr()
    assert main(["tune", "quality", str(tmp_path / "pairs.json"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == report(tmp_path)["quality"]


@pytest.mark.slow
def test_trl_reads_what_is_written_for_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Image, List, load_dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import DPOConfig, DPOTrainer

    assert main(command(data, script(data), "--how", "self", "--format", "trl", out="pairs.jsonl")) == 0
    pairs = read_pairs(data / "pairs.jsonl")
    monkeypatch.chdir(data / "images")
    rows = load_dataset("json", data_files=str(data / "pairs.jsonl"), split="train").cast_column(
        "images", List(Image())
    )
    folder = make_llava(data / "llava")
    processor = AutoProcessor.from_pretrained(folder)
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(folder),
        args=DPOConfig(
            str(data / "trl"), per_device_train_batch_size=2, max_steps=1, max_length=None, report_to=[], use_cpu=True,
            bf16=False,
        ),
        train_dataset=rows,
        processing_class=processor,
    )  # fmt: skip
    batch = trainer.data_collator([rows[0], rows[1]])
    texts = processor.tokenizer.batch_decode(batch["input_ids"])
    assert len(texts) == 4  # two chosen, two rejected
    for text, pair, answer in zip(
        texts, [*pairs[:2], *pairs[:2]], [p.chosen for p in pairs[:2]] + [p.rejected for p in pairs[:2]], strict=True
    ):
        assert pair.prompt in text
        assert answer in text
        assert text.count("<image>") == 4  # the nano model's image tokens: one image, once
    assert len(batch["pixel_values"]) == 4
    assert trainer.train().global_step == 1


def test_positives_whose_images_are_elsewhere_are_told_before_anything_is_written(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    take = ("tune", "positives", "--source", f"mini={made / 'rows.json'}", "--out", str(out), "--images", str(made))
    assert main([*take]) == 2
    assert f"6 of 6 images are not in {made}: 0.png, 1.png, 2.png, ..." in capsys.readouterr().err
    assert not out.exists()
    assert main([*take, "--folder", "mini=images"]) == 0
    assert {p.image for p in load_positives(out)} == {f"images/{n}.png" for n in range(6)}
    assert main([*take[:-4], "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path}: a folder" in capsys.readouterr().err
    assert main([*take[:-4], "--out", str(out / "x.jsonl")]) == 2
    assert "its folder cannot be made" in capsys.readouterr().err


# -- killed, interrupted ----------------------------------------------------------------------------------------------


def started(data: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = command(
        data, script(data), "--how", "self,injected", "-M", "delay=0.02", "-M", "batch_rows=2",
        "-M", f"log={data / 'calls'}", *more,
    )  # fmt: skip
    code = f"import sys\nfrom mmalign_eval.cli.main import main\nsys.exit(main({arguments!r}))"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def calls(data: Path) -> list[str]:
    return (data / "calls").read_text().split() if (data / "calls").exists() else []


def wait_for(data: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    while len(calls(data)) < count and process.poll() is None:
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("at", "sent"),
    [
        (3, signal.SIGKILL),
        *(pytest.param(*slow, marks=pytest.mark.slow) for slow in ((13, signal.SIGKILL), (7, signal.SIGINT))),
    ],
)
def test_a_run_that_is_stopped_goes_on_with_no_pair_lost_or_doubled(data: Path, at: int, sent: int) -> None:
    process = started(data)
    wait_for(data, at, process)
    os.kill(process.pid, sent)
    _, stderr = process.communicate()
    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), stderr.decode()
    assert not (data / "pairs.json").exists()
    store = Store(data / "pairs.json.store.sqlite")
    kept = len(store)
    store.close()
    assert 0 < kept < 24
    before = len(calls(data))
    assert started(data).wait() == 0
    assert len(calls(data)) - before == 24 - kept  # only what was not kept is asked
    assert sum(made["cost"]["stored"] for made in report(data)["made"].values()) == kept
    pairs = read_pairs(data / "pairs.json")
    assert [pair.id for pair in pairs] == [f"mini-{n}/{kind}" for n in range(12) for kind in ("self", "llm-hal")]
    assert sorted(path.name for path in data.iterdir() if path.name.startswith("pairs.json")) == [
        "pairs.json",
        "pairs.json.report.json",
        "pairs.json.store.sqlite",
    ]


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_fails_now_and_then_injects_all_errors(
    data: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    counts: dict[str, int] = {}

    def behave(seen: Seen) -> Any:
        asked = seen.body["messages"][-1]["content"]
        counts[asked] = counts.get(asked, 0) + 1
        return ok("  A dog and a bus.") if counts[asked] > 1 else error(status, retry_after="0")

    with FaultServer(behave) as server:
        plan = ("--how", "injected", "--injector", f"openai:x,base_url={server.url}", "--prompt", "description")
        assert main(command(data, script(data), *plan)) == 0
    pairs = read_pairs(data / "pairs.json")
    assert [pair.rejected for pair in pairs] == ["A dog and a bus."] * 12
    body = server.seen[0].body
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["stop"]) == (0.8, 0.95, 1024, ["</s>"])
    assert body["messages"][0]["content"].startswith("I will give you a description an image.")


def test_a_server_that_fails_for_good_makes_no_negative(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def behave(seen: Seen) -> Any:
        return error(500, "down") if "Response: Yes" in str(seen.body) else ok("A dog.")

    with FaultServer(behave) as server:
        plan = ("--how", "injected", "--injector", f"openai:x,base_url={server.url},max_retries=0")
        assert main(command(data, script(data), *plan)) == 4
        assert main(command(data, script(data), *plan, "--max-errors", "3")) == 0
    captured = capsys.readouterr()
    assert "9 pairs of 12 answers: 3 failed (25.0%)" in captured.out
    assert "first failure: mini-3: " in captured.out
    assert "3 answers failed; the same command asks for them again" in captured.err
    pairs = read_pairs(data / "pairs.json")
    assert len(pairs) == 9
    assert not any(pair.chosen == "Yes" for pair in pairs)


def test_a_server_that_is_down_leaves_no_file(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("--how", "injected", "--injector", "openai:x,base_url=http://127.0.0.1:1/v1,max_retries=0")
    assert main(command(data, script(data), "--how", "self,injected", *plan[2:])) == 2
    assert "connection failed: [Errno 111] Connection refused; is the server running" in capsys.readouterr().err
    assert not (data / "pairs.json").exists()


def test_a_corrupt_image_is_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images" / "2.png").write_bytes((data / "images" / "2.png").read_bytes()[:300])
    assert main(command(data, script(data), "--how", "self")) == 4
    assert "10 pairs of 12 answers: 2 failed" in capsys.readouterr().out
    assert {pair.image for pair in read_pairs(data / "pairs.json")} == {f"{n}.png" for n in (0, 1, 3, 4, 5)}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--how", "selv"], "--how selv: unknown - did you mean 'self'"),
        (["--format", "tlr"], "--format tlr: unknown - did you mean 'trl'"),
        (["--how", "self,weakened", "--weaken", "feature:800"], "unknown target 'feature'"),
        (["--how", "self,contrast", "--contrast", "1"], "-M contrast=1: expected ALPHA:BETA"),
        (["--how", "self,injected", "--max-new-tokens", "5000"], "5000 new tokens leave no room for a prompt"),
        (["--how", "injected", "--injector", "hf:nowhere"], "nowhere"),
        (["--synonyms", "none.txt"], "--synonyms none.txt: cannot be read"),
        (["-M", "dtype"], "-M dtype: expected KEY=VALUE"),
        (["--images", "nowhere"], "--images nowhere: no such folder"),
        (["--positives", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--out", "/dev/null/x/pairs.json"], "its folder cannot be made"),
    ],
)
def test_what_is_wrong_is_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*command(data, "mini", "--max-new-tokens", "8"), *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmeval: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (data / "pairs.json.store.sqlite").exists() or len(Store(data / "pairs.json.store.sqlite")) == 0
    assert not (data / "pairs.json").exists()


def test_no_pair_left_is_an_error_that_says_where_to_look(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(data, script(data, [{"text": " "}]), "--how", "self")) == 2
    captured = capsys.readouterr()
    assert "0 pairs of 12 answers: 12 empty (100.0%)" in captured.out
    assert "no pair is left" in captured.err
    assert not (data / "pairs.json").exists()


def test_a_full_disk_is_one_line_and_leaves_the_old_file(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(data, script(data), "--how", "self")) == 0
    before = (data / "pairs.json").read_bytes()

    def full(path: Path, chunks: Any) -> str:
        def some() -> Any:
            yield next(iter(chunks))
            raise OSError(28, "No space left on device")

        return write_whole(path, some())

    monkeypatch.setattr("mmalign_eval.tuning.pairs.write_whole", full)
    assert main(command(data, script(data), "--how", "self,injected")) == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert (data / "pairs.json").read_bytes() == before
    assert not list(data.glob(".pairs.json.*"))
