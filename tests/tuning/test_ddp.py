"""The same command under torchrun, two processes over gloo: the losses of one process, and one checkpoint like its own.

Batches mix rows with and without image, so that one process may show images where the other has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.tuning.conftest import LlavaData, make_data, row, write_rows
from tests.tuning.train_support import STAGE

pytestmark = pytest.mark.slow

SECONDS = 400
MMEVAL = ["-m", "mmalign_eval.cli.main"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *MMEVAL]


def run(start: list[str], words: list[Any]) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, *start, *(str(word) for word in words)]
    return subprocess.run(given, capture_output=True, text=True, timeout=SECONDS)


@pytest.fixture(scope="module")
def words(
    tmp_path_factory: pytest.TempPathFactory, llava_data: LlavaData, nano_lm: Path, nano_llava: Path
) -> dict[str, list[Any]]:
    """The command without `--out`, for each verb; batches are not grouped, so that modalities mix in them."""
    home = tmp_path_factory.mktemp("ddp")
    stage = {**STAGE, "max_steps": 6, "save_every": 3, "log_every": 1, "micro_batch": 1, "group_by_length": False}
    recipe: dict[str, Any] = {
        "about": "test", "method": "mm-ft", "language": "miniature-lm", "vision": "miniature-clip",
        "projector": "mlp2x_gelu", "pretrain": {**stage, "template": "plain"}, "tune": stage,
    }  # fmt: skip
    found = {}
    shown = [r for r in llava_data.rows if r.get("image")]
    captions = [row(str(n), ("Say.", r["conversations"][1]["value"]), image=r["image"]) for n, r in enumerate(shown)]
    file = write_rows(home / "captions.json", captions)
    for verb, more in (("mm-ft", {}), ("mm-lora", {"method": "mm-lora", "lora": {"r": 4, "alpha": 8}})):
        (home / f"{verb}.yaml").write_text(yaml.safe_dump({**recipe, **more}))
        found[verb] = [
            "tune", verb, "--recipe", home / f"{verb}.yaml", "--data", llava_data.file, "--images", llava_data.images,
            "--language", nano_lm, "--tower", nano_llava, "--pretrain-data", file, "--pretrain-images",
            llava_data.images,
        ]  # fmt: skip
    return found


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "training" / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("verb", "options"), [("mm-ft", []), ("mm-ft", ["--fsdp"]), ("mm-lora", ["--fsdp"])])
def test_two_processes_are_one(words: dict[str, list[Any]], tmp_path: Path, verb: str, options: list[str]) -> None:
    """Losses as rule 12 has it; weights within 2e-5: six AdamW steps of 1e-3 enlarge differences of sums' order."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(MMEVAL, [*words[verb], "--out", alone]).returncode == 0
    done = run(TORCHRUN, [*words[verb], "--out", together, *options])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done ") == 1  # the first process speaks for both
    assert done.stderr.count("stage 1  6 steps") == 1
    weights = "model.safetensors" if verb == "mm-ft" else "adapter_model.safetensors"
    for part, file in (("", weights), (".stage1", "model.safetensors")):
        one, two = alone.with_name(f"alone{part}"), together.with_name(f"together{part}")
        assert losses(two) == pytest.approx(losses(one), rel=1e-5, abs=1e-5)
        assert {f.name for f in two.iterdir()} == {f.name for f in one.iterdir()}
        first, second = load_file(one / file), load_file(two / file)
        assert first.keys() == second.keys()
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=0, atol=2e-5)
    assert not together.with_name("together.work").exists()


def test_an_error_of_one_process_ends_both(
    words: dict[str, list[Any]], tmp_path: Path, nano_lm: Path, nano_llava: Path
) -> None:
    """A broken image is met by one process only; the other waits for it, and must not for ever."""
    data = make_data(tmp_path / "data")
    victim = data.images / data.rows[5]["image"]
    victim.write_bytes(victim.read_bytes()[:90])
    given = [*words["mm-ft"][:4], "--data", data.file, "--images", data.images, "--init", nano_llava,
             "--language", nano_lm, "--out", tmp_path / "out"]  # fmt: skip
    done = run(TORCHRUN, given)
    assert done.returncode != 0
    assert f"{victim.name} cannot be decoded" in done.stderr
    assert not (tmp_path / "out").exists()
