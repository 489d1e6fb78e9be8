"""The main job end to end: the embedded model on the embedded data through the real command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.miniature import checkpoint
from mmalign_eval.models.hf_model import HfModel
from mmalign_eval.results import find_results, read_result

TASKS = "truthfulqa,pope,coco_caption"


def run(out: Path, *more: str, model: str = "mini", tasks: str = TASKS) -> int:
    return main(["run", "--model", model, "--tasks", tasks, "--out", str(out), *more])


def scores(out: Path) -> dict[str, Any]:
    """Everything in the result files but provenance."""
    found = {}
    for path in find_results(out):
        result = read_result(path)
        del result["provenance"]
        found[path.name] = result
    return found


def asked(out: Path) -> int:
    return sum(read_result(path)["provenance"]["run"]["asked"] for path in find_results(out))


def test_the_demo_prints_every_task_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--limit", "12") == 0
    captured = capsys.readouterr()
    for word in ("mc1", "mc2", "rougeL_acc", "random/accuracy", "CIDEr", "METEOR", "miniature", ".."):
        assert word in captured.out
    assert "LlamaForCausalLM" in captured.err  # text tasks go to the language model inside
    assert "LlavaForConditionalGeneration" in captured.err
    assert "with shared prefixes" in captured.err
    for result in scores(tmp_path).values():
        assert result["data"]["source"] == "miniature"
        assert result["counts"]["n_error"] == 0
        assert result["prompt"]

    first, count = scores(tmp_path), asked(tmp_path)
    assert count > 0
    assert run(tmp_path, "--limit", "12") == 0
    assert scores(tmp_path) == first
    assert asked(tmp_path) == 0


@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_batch_size_changes_no_score(tmp_path: Path, protocol: str) -> None:
    one, eight = tmp_path / "one", tmp_path / "eight"
    more = ["--limit", "6", "--protocol", protocol]
    assert run(one, *more, "-M", "batch_rows=1", tasks="pope") == 0
    assert run(eight, *more, "-M", "batch_rows=8", tasks="pope") == 0
    assert scores(one) == scores(eight)


def test_batch_size_changes_no_log_likelihood_decision(tmp_path: Path) -> None:
    one, eight = tmp_path / "one", tmp_path / "eight"
    assert run(one, "--limit", "6", "-M", "batch_rows=1", model="mini:lm", tasks="truthfulqa") == 0
    assert run(eight, "--limit", "6", "-M", "batch_rows=8", model="mini:lm", tasks="truthfulqa") == 0
    a, b = scores(one)["truthfulqa.json"]["metrics"], scores(eight)["truthfulqa.json"]["metrics"]
    for name in a:
        assert a[name]["value"] == pytest.approx(b[name]["value"], rel=1e-5), name
    assert a["mc1"] == b["mc1"]


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--limit", "8", "-M", "batch_rows=4", "--protocol", "paper"]
    assert run(whole, *more, tasks="pope") == 0
    answer, batches = HfModel.answer, []

    def interrupted(self: HfModel, batch: Any, images: Any) -> Any:
        batches.append(len(batch))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return answer(self, batch, images)

    with monkeypatch.context() as patched:
        patched.setattr(HfModel, "answer", interrupted)
        assert run(parts, *more, tasks="pope") == 130
    assert run(parts, *more, tasks="pope") == 0
    assert asked(parts) == asked(whole) - sum(batches[:2])
    assert scores(parts) == scores(whole)


def test_dry_run_loads_no_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfModel, "load", lambda self: pytest.fail("weights were loaded"))
    assert run(tmp_path / "out", "--dry-run") == 0
    err = capsys.readouterr().err
    for word in ("requests", "images", "prompt tokens", "with shared prefixes", "0 judge calls"):
        assert word in err
    assert not (tmp_path / "out").exists()


def test_miniature_data_never_stands_in_for_real_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = f"hf:{checkpoint('llava')}"
    assert run(tmp_path, model=real, tasks="pope") == 2
    err = capsys.readouterr().err
    assert "cannot load" in err
    assert "--data" in err
    assert run(tmp_path, "--data", "mini", "--limit", "1", model=real, tasks="pope") == 0


def test_two_models_share_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(tmp_path, "--model", "mini:lm", "--limit", "2", tasks="truthfulqa")
    assert code == 0
    out = capsys.readouterr().out
    assert "mini-lm" in out
    assert "mini " in out
