"""Three whole cases - answers with the official tools' scores - through `mmeval score` (they need MMEVAL_TEST_DATA)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from tests.support import shared_data

CASES = {
    "coco_fakecap": {
        "fakecap/": ("coco_caption", "results_fakecap.json", "captions_gt.json"),
        "messy/": ("coco_caption", "results_messy.json", "captions_gt.json"),
    },
    "mme_lavin": {"": ("mme", "LaVIN", "")},
    "vqav2": {"val/": ("vqav2", "results_val.json", "."), "train/": ("vqav2", "results_train.json", ".")},
}


@pytest.mark.parametrize("case", CASES)
def test_a_whole_case_agrees_with_the_official_tool(case: str, tmp_path: Path) -> None:
    folder = shared_data(f"cases/{case}")
    expected = json.loads((folder / "expected.json").read_text())["metrics"]
    found: dict[str, float | None] = {}
    for prefix, (task, answers, data) in CASES[case].items():
        command = ["score", task, "--answers", str(folder / answers), "--json", str(tmp_path / "s.json")]
        assert main([*command, *(["--data", str(folder / data)] if data else [])]) == 0
        values = json.loads((tmp_path / "s.json").read_text())
        found.update({prefix + name: value for name, value in values.items()})
    wrong = {}
    for name, want in expected.items():
        value = found.get(name)
        if value is None or abs(value - want["value"]) > want["abs_tol"]:
            wrong[name] = (value, want["value"])
    assert wrong == {}
    assert len(expected) > 10
