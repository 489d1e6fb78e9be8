"""Curves at the end of a training: what is drawn of which log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mmalign_eval.tuning.curves import MOST, _points, draw


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def titles(file: Path) -> list[str]:
    return re.findall(r'class="strong"[^>]*>([^<]+)<', file.read_text(encoding="utf-8"))


def test_preference_tuning_has_its_panels(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for step in (10, 20, 30):
        values = {"logps/chosen": -5.0 - step, "logps/rejected": -9.0, "rewards/chosen": 0.1, "rewards/rejected": -0.1,
                  "rewards/margins": 0.2}  # fmt: skip
        spread = {f"{name}_sd": 1.5 for name in values}
        rows.append({"step": step, "loss": 0.6, "rewards/accuracies": 0.5, **values, **spread})
        both = {f"eval_{name}": value for name, value in {**values, **spread, "loss": 0.6, "kl": 0.01}.items()}
        rows.append({"step": step, **both, "eval_rewards/accuracies": 0.5})
    assert draw(write(tmp_path / "log.jsonl", rows), tmp_path / "curves.svg")
    ElementTree.parse(tmp_path / "curves.svg")
    assert titles(tmp_path / "curves.svg") == [
        "Preference tuning", "log-probability, chosen", "log-probability, rejected", "reward, training",
        "reward, held out", "reward margin", "reward accuracy", "loss", "KL to the base, a token",
    ]  # fmt: skip
    whiskers = (tmp_path / "curves.svg").read_text(encoding="utf-8").count('class="whisker')
    assert whiskers == 3 * (2 + 2 + 2 + 2 + 2)


def test_supervised_tuning_shows_the_ground_truth(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1.0 / s, "logps/chosen": -10.0 + s, "logps/chosen_sd": 2.0} for s in (1, 2, 3)]
    assert draw(write(tmp_path / "log.jsonl", rows), tmp_path / "curves.svg")
    assert titles(tmp_path / "curves.svg") == ["Supervised tuning", "log-probability, ground truth", "loss"]


def test_one_step_has_no_curve(tmp_path: Path) -> None:
    assert not draw(write(tmp_path / "log.jsonl", [{"step": 1, "loss": 1.0}]), tmp_path / "curves.svg")
    assert not (tmp_path / "curves.svg").exists()


def test_bars_are_one_standard_deviation_and_the_last_of_a_step_counts() -> None:
    rows = [{"step": 1, "a": 9.0}, {"step": 1, "a": 2.0, "a_sd": 0.5}, {"step": 2, "a": 3.0}]
    first, second = _points(rows, "a")
    assert (first.x, first.y, first.y_ends) == (1.0, 2.0, (1.5, 2.5))
    assert (second.x, second.y, second.y_ends) == (2.0, 3.0, (None, None))


@pytest.mark.parametrize("count", [MOST, MOST + 1, 10 * MOST])
def test_long_logs_are_means_of_neighbours(count: int) -> None:
    points = _points([{"step": s, "a": float(s), "a_sd": 1.0} for s in range(count)], "a")
    assert len(points) <= MOST
    assert points[0].x == points[0].y
    assert (len(points) == count) == (count <= MOST)
