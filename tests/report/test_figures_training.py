"""Training curves of trainers' logs, whole or not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.report.figures import training_curves

from .figures_support import NS, outside, overlaps, parsed, texts, words

LOG = [
    {
        "step": step,
        "epoch": step / 100,
        "loss": 0.7 - step / 1000,
        "rewards/accuracies": 0.5 + step / 1000,
        "rewards/margins": step / 100,
        "rewards/chosen": step / 50,
        "rewards/rejected": -step / 50,
        "learning_rate": 1e-6,
        **({"eval_loss": 0.71 - step / 1000} if step % 50 == 0 else {}),
    }
    for step in range(10, 210, 10)
] + [{"step": 200, "train_runtime": 9.0, "train_steps_per_second": 3.0, "total_flos": 1e9}]


def state(folder: Path) -> Path:
    path = folder / "run7" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"global_step": 200, "log_history": LOG}))
    return path


def test_panels_of_a_trainer_state(tmp_path: Path) -> None:
    figure = training_curves(state(tmp_path))
    root = parsed(figure)
    headings = [text.shown for text in texts(root) if text.kind == "strong"]
    assert headings == [
        "Training: run7",
        *("rewards/accuracies", "rewards/margins", "loss", "learning_rate", "rewards"),
    ]
    assert {"chosen", "rejected", "training", "evaluation"} <= set(words(root))
    assert figure.data[0] == ("logged", "steps", "first", "last", "lowest", "highest")
    assert ("rewards/margins, training", "10 .. 200", "0.1", "2", "0.1", "2") in figure.data
    assert ("loss, evaluation", "50 .. 200", "0.66", "0.51", "0.51", "0.66") in figure.data
    assert overlaps(root) == []
    assert outside(root) == []


def test_points_lie_where_the_axes_say(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": v}) + "\n" for s, v in [(0, 4.0), (50, 1.0), (100, 2.0)]))
    root = parsed(training_curves(path))
    ups = {float(t.shown): t.y - 4 for t in texts(root) if t.anchor == "end"}
    unders = {float(t.shown): t.x for t in texts(root) if t.anchor == "middle" and t.shown.isdigit()}
    drawn = next(n.attrib["d"] for n in root.iter(f"{NS}path") if "line" in n.attrib.get("class", ""))
    corners = [tuple(map(float, corner.split())) for corner in drawn[1:].split("L")]
    assert [x for x, _ in corners] == pytest.approx([unders[0], (unders[0] + unders[100]) / 2, unders[100]], abs=0.1)
    assert [y for _, y in corners] == pytest.approx([ups[4.0], ups[1.0], ups[2.0]], abs=0.1)


def test_the_same_log_as_lines_is_the_same_drawing(tmp_path: Path) -> None:
    lines = tmp_path / "run7.jsonl"
    lines.write_text("\n".join(map(json.dumps, LOG)) + "\n")
    assert training_curves(lines).svg == training_curves(state(tmp_path)).svg


def test_what_mmeval_tune_leaves_goes_by_its_own_name(tmp_path: Path) -> None:
    figures = []
    for name in ("sft", "bpo"):
        log = tmp_path / name / "training" / "log.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text("\n".join(map(json.dumps, LOG)) + "\n")
        figures += [training_curves(log), training_curves(tmp_path / name)]
    assert [figure.name for figure in figures] == ["training-sft", "training-sft", "training-bpo", "training-bpo"]


def test_long_logs_are_means_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": float(s % 2)}) + "\n" for s in range(1, 10_001)))
    figure = training_curves(path)
    assert figure.caption == "Each point is the mean of 50 logged steps."
    assert len(figure.svg) < 20_000
    assert figure.data[1] == ("loss, training", "1 .. 10000", "1", "0", "0", "1")


def test_undefined_values_are_gaps(tmp_path: Path) -> None:
    path = tmp_path / "nan.jsonl"
    values = [1.0, 2.0, math.nan, math.inf, 3.0, 4.0]
    path.write_text("".join(json.dumps({"step": s, "loss": v}) + "\n" for s, v in enumerate(values)))
    drawn = [n.attrib["d"] for n in parsed(training_curves(path)).iter(f"{NS}path") if "d" in n.attrib]
    line = next(d for d in drawn if d.count("M") == 2 and "L" in d)
    assert line.count("L") == 2
    assert "nan" not in line


def test_a_step_that_was_done_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "resumed.jsonl"
    rows = [(1, 5.0), (2, 4.0), (2, 9.0), (3, 2.0)]
    path.write_text("".join(json.dumps({"step": s, "loss": v}) + "\n" for s, v in rows))
    assert training_curves(path).data[1] == ("loss, training", "1 .. 3", "5", "2", "2", "9")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing to draw"),
        (b"hello\n", ":1: not JSON"),
        (b'{"step": 1, "loss": 2}\n{"step": 2, "lo', ":2: not JSON"),
        (b'{"step": 1, "loss": 2}\n[1]\n', ":2: expected an object"),
        (b"[1, 2]", "no training log"),
        (b'"text"', "no training log"),
        (b'{"log_history": {"a": 1}}', "no training log"),
        (b'{"log_history": []}', "nothing to draw"),
        (b'{"step": 1, "loss": 2}', "nothing to draw"),
        (b'[{"loss": 2}, {"loss": 3}]', "nothing to draw"),
        (b'[{"step": "a", "loss": 2}, {"step": NaN, "loss": 3}]', "nothing to draw"),
        (b"\xff\xfe\x00", "not text"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_garbage_is_named_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        training_curves(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_log(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            training_curves(path)


def test_standard_deviations_are_bars_of_what_they_belong_to(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"step": s, "logps/chosen": -s, "logps/chosen_sd": 2.0, "noise_sd": 1.0} for s in (1.0, 2.0, 3.0)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = training_curves(path)
    root = parsed(figure)
    headings = [text.shown for text in texts(root) if text.kind == "strong"]
    assert headings == ["Training: pairs", "logps", "noise_sd"]  # what belongs to nothing is a curve of its own
    assert figure.caption == "Bars are one standard deviation to either side."
    assert figure.svg.count('class="whisker') == 3
    lowest = min(float(text.shown) for text in texts(root) if text.anchor == "end")
    assert lowest <= -5
