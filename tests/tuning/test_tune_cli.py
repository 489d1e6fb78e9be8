"""`mmeval tune mm-ft`, `mm-lora` and `sft` through the command line: results, records, going on, what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmalign_eval.tuning import sft as sft_module
from mmalign_eval.tuning.sft import SftTrainer

from mmalign_eval.cli.main import main
from mmalign_eval.models.checkpoint import open_checkpoint
from tests.tuning.conftest import LlavaData, make_data, row, write_rows
from tests.tuning.train_support import LORA, STAGE, in_child


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, llava_data: LlavaData) -> Path:
    """Recipes of four steps, captions for stage 1, and preference pairs."""
    folder = tmp_path_factory.mktemp("home")
    stage = {**STAGE, "max_steps": 4, "save_every": 2}
    content: dict[str, Any] = {
        "about": "test", "method": "mm-ft", "language": "miniature-lm", "vision": "miniature-clip",
        "projector": "mlp2x_gelu", "pretrain": {**stage, "template": "plain"}, "tune": stage,
    }  # fmt: skip
    lora = {**content, "method": "mm-lora", "lora": LORA}
    positives = {key: value for key, value in lora.items() if key != "pretrain"} | {"method": "sft"}
    for name, recipe in (("ft", content), ("lora", lora), ("sft", positives)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    shown = [r for r in llava_data.rows if r.get("image")]
    said = [(r["image"], r["conversations"][1]["value"]) for r in shown]
    write_rows(folder / "captions.json", [row(str(n), ("Say.", a), image=i) for n, (i, a) in enumerate(said)])
    pairs = [
        {"id": f"coco-{n}", "prompt": "Describe.", "image": image, "completions": [
            {"score": 1, "response": answer, "type": "gt"}, {"score": 0, "response": "A cow.", "type": "mllm-hal"},
            {"score": 0, "response": "A pig.", "type": "llm-hal"}]}
        for n, (image, answer) in enumerate(said)
    ]  # fmt: skip
    write_rows(folder / "pairs.json", pairs)
    return folder


class Command:
    """A command line about the nano checkpoints."""

    def __init__(self, home: Path, data: LlavaData, lm: Path, llava: Path, out: Path) -> None:
        self.home, self.data, self.out = home, data, out
        self.stage_1 = ["--language", lm, "--tower", llava, "--pretrain-data", home / "captions.json",
                        "--pretrain-images", data.images]  # fmt: skip
        self.llava = llava

    def __call__(self, verb: str = "mm-ft", *more: Any, data: Path | None = None, parts: Sequence[Any] = ()) -> int:
        recipe = {"mm-ft": "ft", "mm-lora": "lora", "sft": "sft"}[verb]
        given = ["--recipe", self.home / f"{recipe}.yaml", "--data", data or self.data.file,
                 "--images", self.data.images, "--out", self.out]  # fmt: skip
        own = ["--model", self.llava] if verb == "sft" else [*(parts or self.stage_1)]
        return main([str(word) for word in ("tune", verb, *given, *own, *more)])

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "mmeval.json").read_text()))


@pytest.fixture
def command(home: Path, llava_data: LlavaData, nano_lm: Path, nano_llava: Path, tmp_path: Path) -> Command:
    return Command(home, llava_data, nano_lm, nano_llava, tmp_path / "out")


def test_mm_ft_leaves_a_llava_and_says_what_it_was_made_of(
    command: Command, nano_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    out, err = capsys.readouterr()
    assert f"mmeval run --model hf:{command.out} " in out
    assert "stage 1  4 steps  loss" in err
    assert "mm-ft    4 steps  loss" in err
    record = command.record()
    base = open_checkpoint(str(nano_lm)).fingerprints()["weights"]
    assert record["tuned"] == {
        "method": "mm-ft", "recipe": "ft", "seed": 0, "base": {"name": "lm", "weights": base, "peft": ""},
    }  # fmt: skip
    assert record["training"]["coco_ids"] == list(range(1000, 1012))
    assert len(record["training"]["images"]) == 12
    assert [(f["role"], f["path"], f["rows"]) for f in record["data"]] == [
        ("pretrain", "captions.json", 12),
        ("tune", "rows.json", 16),
    ]
    assert record["steps"] == 4
    assert {f.name for f in (command.out / "training").iterdir()} == {"log.jsonl", "trainer_state.json", "curves.svg"}
    first = json.loads((command.out.with_name("out.stage1") / "mmeval.json").read_text())
    assert first["tuned"]["method"] == "projector"
    assert first["tuned"]["base"]["weights"] == base
    assert not command.out.with_name("out.work").exists()


def test_the_same_again_does_nothing_and_another_is_refused(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("sft") == 0
    stamp = (command.out / "mmeval.json").stat().st_mtime_ns
    assert command("sft") == 0
    assert "is there already" in capsys.readouterr().err
    assert (command.out / "mmeval.json").stat().st_mtime_ns == stamp
    for change in (["--seed", "1"], ["--set", "tune.lr=2e-3"], ["--merge"]):
        assert command("sft", *change) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "give another --out" in line


def test_a_first_stage_of_another_training_is_not_built_on(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_1 = command.out.with_name("out.stage1")
    stage_1.mkdir()
    (stage_1 / "mmeval.json").write_text('{"about": {"seed": 1}}')
    assert command() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"another stage 1 is there; give another --out, move it away, or go on from it with --init {stage_1}" in line


def test_mm_lora_leaves_an_adapter_for_its_stage_1(command: Command, nano_lm: Path, nano_llava: Path) -> None:
    from safetensors import safe_open

    assert command("mm-lora") == 0
    with safe_open(command.out / "adapter_model.safetensors", "pt") as stored:
        names = list(stored.keys())
    assert sum(".multi_modal_projector." in name for name in names) == 4
    assert sum(".lora_" in name for name in names) == 28
    record = command.record()
    stage_1 = open_checkpoint(str(command.out.with_name("out.stage1"))).fingerprints()["weights"]
    assert record["onto"]["weights"] == stage_1
    assert record["tuned"]["base"]["name"] == "lm"


def test_sft_on_the_chosen_answers_of_pairs(
    command: Command, home: Path, nano_llava: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("sft", data=home / "pairs.json") == 0
    record = command.record()
    assert record["rows"]["tune"] == {
        "read": 24, "used": 12, "dropped": {"chosen answer of another pair too": 12}, "changed": {},
    }  # fmt: skip
    assert record["tuned"]["base"]["weights"] == open_checkpoint(str(nano_llava)).fingerprints()["weights"]
    log = [json.loads(line) for line in (command.out / "training" / "log.jsonl").read_text().splitlines()]
    assert all({"logps/chosen", "logps/chosen_sd"} <= entry.keys() for entry in log)
    assert f"hf:{nano_llava},adapter={command.out}" in capsys.readouterr().out


@pytest.mark.slow
def test_merged_is_a_whole_checkpoint(command: Command) -> None:
    assert command("sft", "--merge") == 0
    assert (command.out / "model.safetensors").is_file()
    assert not (command.out / "adapter_config.json").exists()


@pytest.mark.slow
def test_text_only_from_a_given_llava(command: Command, nano_lm: Path) -> None:
    parts = ["--init", command.llava, "--language", nano_lm]
    assert command("mm-ft", "--text-only", "--samples", "6", parts=parts) == 0
    record = command.record()
    assert record["training"] == {"coco_ids": [], "images": []}
    assert record["rows"]["tune"]["used"] == 6
    assert not command.out.with_name("out.stage1").exists()


def refusals(home: Path, llava: Path, lm: Path) -> dict[str, tuple[str, list[Any], str]]:
    init = ["--init", llava, "--language", lm]
    return {
        "another method's recipe": ("mm-ft", ["--recipe", home / "sft.yaml", *init], "it is for `mmeval tune sft`"),
        "unknown key": ("mm-ft", ["--set", "tune.lrr=1", *init], "unknown key tune.lrr - did you mean 'lr'?"),
        "no base known": ("mm-ft", ["--init", llava], "does not say which language model"),
        "both ways": ("mm-ft", [*init, "--tower", llava], "--init skips stage 1"),
        "no stage 1 data": ("mm-ft", ["--language", lm, "--tower", llava], "needs --pretrain-data"),
        "no language model": ("mm-ft", ["--tower", llava], "--language"),
        "not a llava": ("mm-ft", ["--init", lm, "--language", lm], "not a LLaVA"),
        "another language model": ("mm-ft", ["--init", llava, "--language", llava], "not what --init"),
        "no such model": ("mm-ft", ["--init", "nowhere/at/all", "--language", lm], "no such folder"),
        "kinds unknown": ("mm-ft", [*init, "--kinds", "detail"], "neither its name nor its rows' ids tell kinds"),
        "too many samples": ("mm-ft", [*init, "--samples", "17"], "17 samples asked for, 16 there"),
        "evaluation": ("mm-ft", [*init, "--set", "tune.eval_every=2"], "eval_every: only bpo"),
        "batches": ("mm-ft", [*init, "--set", "tune.batch=3"], "batch 3 is no multiple"),
        "sharding alone": ("mm-ft", [*init, "--fsdp"], "torchrun"),
        "nothing to merge": ("sft", ["--merge", "--set", "lora=null"], "nothing to merge"),
    }


@pytest.mark.parametrize("case", refusals(Path(), Path(), Path()))
def test_refused_in_one_line_before_any_work(
    command: Command, home: Path, nano_lm: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, words, said = refusals(home, command.llava, nano_lm)[case]
    assert command(verb, *words, parts=["--seed", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(command.out.parent.iterdir())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no rows to train on"),
        ([row("1", ("a", "b"), image="gone.png")], "1 of 1 images are not in"),
        ([row("1", ("<image> a", "b"), image="000000001000.png")], "stands in it 2 times"),
        ([{"id": "1", "conversations": [{"from": "gpt", "value": "Hi"}]}], "no rows to train on"),
        ([{"id": "1", "conversations": [{"from": "human", "value": "a"}] * 2}], "must alternate"),
    ],
    ids=["empty", "missing image", "two images", "assistant first", "no alternation"],
)
def test_data_that_cannot_be_trained_on(
    command: Command, nano_lm: Path, tmp_path: Path, rows: list[Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "bad.json", rows)
    assert command("mm-ft", data=file, parts=["--init", command.llava, "--language", nano_lm]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_a_corrupt_image_ends_it_and_mended_it_goes_on(
    home: Path, nano_lm: Path, nano_llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    victim = data.images / data.rows[5]["image"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    command = Command(home, data, nano_lm, nano_llava, tmp_path / "out")
    parts = ["--init", nano_llava, "--language", nano_lm]
    assert command("mm-ft", parts=parts) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert victim.name in last
    assert "cannot be decoded" in last
    assert not command.out.exists()
    victim.write_bytes(whole)
    assert command("mm-ft", parts=parts) == 0


@pytest.mark.slow
def test_interrupted_it_exits_130_and_goes_on_to_the_same(
    command: Command, home: Path, llava_data: LlavaData, nano_lm: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    inner, count = SftTrainer.compute_loss, 0

    def interrupted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 14:  # stage 1 has eight forward passes, stage 2 a checkpoint after four more
            signal.raise_signal(signal.SIGINT)
        return inner(*given, **named)

    monkeypatch.setattr(SftTrainer, "compute_loss", interrupted)
    assert command() == 130
    assert "run the same command again" in capsys.readouterr().err
    monkeypatch.undo()
    assert not command.out.exists()
    assert command("mm-ft", "--set", "tune.lr=1") == 2  # not with what is there
    assert "unfinished training of something else" in capsys.readouterr().err
    assert command() == 0
    again = Command(home, llava_data, nano_lm, command.llava, tmp_path / "again")
    assert again() == 0
    one, two = ((c.out / "model.safetensors").read_bytes() for c in (command, again))
    assert one == two


@pytest.mark.slow
def test_what_was_wrong_before_the_first_checkpoint_can_be_put_right(command: Command, nano_lm: Path) -> None:
    parts = ["--init", command.llava, "--language", nano_lm]
    assert command("mm-ft", "--seed", "-1", parts=parts) == 2
    stage_1 = command.out.with_name("out.stage1")
    stage_1.mkdir()
    (stage_1 / "mmeval.json").write_text("[3]")
    assert command() == 2
    shutil.rmtree(stage_1)
    assert command("mm-ft", "--set", "tune.max_length=8", parts=parts) == 2
    assert not list(command.out.parent.iterdir())
    assert command("mm-ft", parts=parts) == 0


def test_a_llava_that_says_what_it_was_made_of_is_believed(
    command: Command, nano_lm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmalign_eval.miniature.nano import make_causal_lm

    assert command() == 0
    stage_1, other = command.out.with_name("out.stage1"), make_causal_lm(tmp_path / "other", seed=9)
    command.out = tmp_path / "again"
    assert command("mm-ft", parts=["--init", stage_1, "--language", other]) == 2
    assert "was made of lm, as it says: leave it out" in capsys.readouterr().err
    assert command("mm-ft", parts=["--init", stage_1]) == 0
    assert command.record()["tuned"]["base"]["name"] == "lm"


def test_killed_while_the_result_is_written(command: Command, nano_lm: Path) -> None:
    from mmalign_eval.tuning import workplace

    parts = ["--init", command.llava, "--language", nano_lm]

    def until_killed() -> None:
        workplace.draw = lambda *given: signal.raise_signal(signal.SIGKILL)  # type: ignore[assignment]
        command("mm-ft", parts=parts)

    assert in_child(until_killed) == -signal.SIGKILL
    assert not command.out.exists()
    assert command("mm-ft", parts=parts) == 0


def test_one_training_at_a_time(command: Command, nano_lm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmalign_eval.tuning.workplace import workplace

    with workplace(command.out, {"something": "else"}):
        code = in_child(lambda: signal.raise_signal(signal.SIGTERM) if command("sft") != 2 else None)
    assert code == 0


def test_too_little_room(command: Command, nano_lm: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from mmalign_eval.tuning import workplace

    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(workplace.shutil, "disk_usage", lambda path: usage)
    assert command("sft") == 2
    assert "about 0.1 GB needed there, 0.0 GB free" in capsys.readouterr().err


def test_how_to_score_names_the_base_as_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    from mmalign_eval.cli.tune_progress import print_done

    for base, named in (("mini", "mini"), ("hf:a/b", "hf:a/b"), ("a/b", "hf:a/b"), ("mini/llava", "hf:mini/llava")):
        print_done(Path("out"), base, adapter=True)
        assert f" --model {named},adapter=out " in capsys.readouterr().out
    print_done(Path("out"), "mini", adapter=False)
    assert " --model hf:out " in capsys.readouterr().out


def test_nothing_heavy_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "mm-ft", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--pretrain-data" in text
    assert sft_module is not None


@pytest.mark.slow
def test_scored_with_the_difference_to_its_base(
    command: Command, nano_lm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Base, MM-ft and MM-lora through `mmeval run`: text half and image half, and the column that nobody asked for."""
    lora = Command(command.home, command.data, nano_lm, command.llava, tmp_path / "lora")
    assert command() == lora("mm-lora") == 0
    run = ["--data", "mini", "--limit", "3", "--out", str(tmp_path / "results")]
    assert main(["run", "--model", f"hf:{nano_lm}", "--tasks", "truthfulqa", *run]) == 0
    for model in (f"hf:{command.out}", f"hf:{lora.out}.stage1,adapter={lora.out}", f"hf:{nano_lm},adapter={lora.out}"):
        tasks = "truthfulqa" if model.startswith(f"hf:{nano_lm}") else "truthfulqa,pope"
        capsys.readouterr()
        assert main(["run", "--model", model, "--tasks", tasks, *run]) == 0
        out, err = capsys.readouterr()
        assert f"tuned by {'mm-ft' if model == f'hf:{command.out}' else 'mm-lora'} from lm (" in err
        assert "vs lm" in out
        assert ("\npope " in out) == (tasks != "truthfulqa")
