"""Contamination: tuning files of every kind against a task's images, and the footnote of a tuned checkpoint."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval import read_result
from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput
from mmalign_eval.models.tuned import TUNING_FILE, read_training
from mmalign_eval.overlap import overlap, read_training_file
from mmalign_eval.requests import ImageRef
from mmalign_eval.task import Sample
from tests.support import shared_data

IDS = (139, 285, 632)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    """Three images of COCO's val2014 in POPE's layout, two questions each."""
    root = tmp_path / "pope"
    (root / "val2014").mkdir(parents=True)
    lines = []
    for n, number in enumerate(IDS):
        name = f"COCO_val2014_{number:012d}.jpg"
        Image.new("RGB", (8, 8), (40 * n, 10, 10)).save(root / "val2014" / name)
        for q, label in enumerate(("yes", "no")):
            lines.append({"question_id": 2 * n + q + 1, "image": name, "text": "Is there a dog?", "label": label})
    (root / "coco_pope_random.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def compare(pope: Path, training: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main(["tasks", "overlap", "pope", "--training", str(training), "--data", str(pope), "--json", "-", *more])
    out = capsys.readouterr().out
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    "name", ["000000000139.jpg", "COCO_train2014_000000000139.jpg", "c/train2017/000000000139.jpg", "/000000000139.png"]
)  # fmt: skip
def test_coco_ids_match_whatever_the_split_or_folder(
    pope: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": "a", "image": name, "conversations": []},
        {"id": "b", "conversations": []},
        {"id": "c", "image": name},
    ]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    found = compare(pope, tmp_path / "llava.json", capsys=capsys)
    assert found["training"] == {"rows": 3, "rows_without_image": 1, "images": 1, "coco_ids": 1, "hashed": 0}
    assert {k: v for k, v in found["overlap"].items() if k != "first"} == {
        "images": 3, "samples": 6, "by_coco_id": 1, "by_hash": 0, "shared": 1, "shared_samples": 2, "hashed": 0,
    }  # fmt: skip
    assert found["overlap"]["first"] == [{"image": "139", "sample": "random/1", "by": "COCO id"}]


def test_names_that_are_not_coco_s_match_nothing(
    pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": name} for name in ("vg/VG_100K/139.jpg", "ocr_vqa/0139.jpg", "139", "1000000000139.jpg")]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert compare(pope, tmp_path / "t.jsonl", capsys=capsys)["overlap"]["shared"] == 0


def test_files_match_under_another_name(pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "renamed.jpg").write_bytes((pope / "val2014" / f"COCO_val2014_{632:012d}.jpg").read_bytes())
    rows = [{"image": "renamed.jpg"}, {"image": "../outside.jpg"}, {"image": "absent.jpg"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = compare(pope, tmp_path / "t.jsonl", "--images", str(own), capsys=capsys)
    assert found["training"]["hashed"] == 1
    assert (found["overlap"]["by_hash"], found["overlap"]["by_coco_id"], found["overlap"]["hashed"]) == (1, 0, 3)
    assert found["overlap"]["first"] == [{"image": "632", "sample": "random/5", "by": "file"}]


def test_parquet_with_embedded_images(pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Preference pairs as on the hub: `image` holds bytes, `image_path` the name."""
    data = (pope / "val2014" / f"COCO_val2014_{285:012d}.jpg").read_bytes()
    rows = {
        "image": [{"bytes": data, "path": None}, {"bytes": b"other", "path": None}],
        "image_path": ["x/1.jpg", "COCO_train2014_000000000139.jpg"],
        "text": ["{}", "{}"],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    found = compare(pope, tmp_path / "t.parquet", capsys=capsys)
    assert found["training"] == {"rows": 2, "rows_without_image": 0, "images": 2, "coco_ids": 1, "hashed": 2}
    by = {match["image"]: match["by"] for match in found["overlap"]["first"]}
    assert by == {"285": "file", "139": "COCO id"}


def test_the_lines_say_what_the_json_says(pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": "000000000285.jpg"}))
    assert main(["tasks", "overlap", "pope", "--training", str(tmp_path / "t.jsonl"), "--data", str(pope)]) == 0
    out = capsys.readouterr().out
    assert "shared    1 images (2 samples): 1 by COCO id, 0 by file" in out
    assert "285  random/3  by COCO id" in out


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ('{"image": "a.jpg"}\n{"image": ', "t.jsonl", "t.jsonl:2: not valid JSON"),
        ('[{"image": "a.jpg"}, 3]', "t.json", "[1]: expected an object, found int"),
        ('{"image": "a.jpg"}', "t.json", "expected a list of rows, found dict"),
        ('[{"picture": "a.jpg"}]', "t.json", "none of 1 rows names an image"),
        ('[{"image": {"x": 1}}]', "t.json", "expected an image name"),
        ("not parquet", "t.parquet", "cannot be read"),
    ],
)
def test_bad_tuning_files(
    pope: Path, tmp_path: Path, text: str, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main(["tasks", "overlap", "pope", "--training", str(tmp_path / name), "--data", str(pope)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_text_task_has_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.json").write_text("[]")
    assert main(["tasks", "overlap", "truthfulqa", "--training", str(tmp_path / "t.json")]) == 2
    assert "shows no images" in capsys.readouterr().err


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_shared_is_the_intersection(ours: set[int], theirs: set[int]) -> None:
    samples = [Sample(f"{n}/{q}", {}, (ImageRef(f"COCO_val2014_{n:012d}.jpg"),)) for n in sorted(ours) for q in (0, 1)]
    found = overlap(samples, {"coco_ids": sorted(theirs), "images": []})
    assert found.shared == found.by_coco_id == len(ours & theirs)
    assert found.shared_samples == 2 * found.shared
    assert found.images == len(ours)
    assert {match["image"] for match in found.first} <= {str(n) for n in ours & theirs}


def test_real_tuning_file_against_the_real_questions(capsys: pytest.CaptureFixture[str]) -> None:
    """Image 506483 is one of POPE's 500 and one of the thirty in the sample of LLaVA's own tuning data."""
    training = shared_data("instruct") / "llava_style_sample.json"
    names = {row["image"] for row in json.loads(training.read_text())}
    questions = [json.loads(q) for q in (shared_data("pope") / "coco_pope_random.json").read_text().splitlines() if q]
    both = names & {q["image"] for q in questions}
    assert both
    found = compare(shared_data("pope"), training, capsys=capsys)
    assert found["overlap"]["shared"] == len(both)


def test_a_tuned_checkpoint_s_result_carries_the_count(
    pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmalign_eval.miniature.nano import make_llava

    checkpoint = make_llava(tmp_path / "tuned")
    data = (pope / "val2014" / f"COCO_val2014_{285:012d}.jpg").read_bytes()
    record = {"training": {"coco_ids": [139], "images": [sha(data)]}}
    (checkpoint / TUNING_FILE).write_text(json.dumps(record))
    command = ["run", "--model", f"hf:{checkpoint},template=llava_v1", "--tasks", "pope", "--data", str(pope)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "2 of 3 images (4 of 6 samples) were in the tuning data: 1 by COCO id, 1 by file" in capsys.readouterr().out
    found = read_result(tmp_path / "out" / "tuned" / "pope.json")["contamination"]
    assert (found["shared"], found["shared_samples"], found["images"]) == (2, 4, 3)
    (checkpoint / TUNING_FILE).unlink()
    assert main([*command, "--out", str(tmp_path / "out2")]) == 0
    assert "tuning data" not in capsys.readouterr().out
    assert "contamination" not in read_result(tmp_path / "out2" / "tuned" / "pope.json")


def test_records_of_a_checkpoint_and_its_peft_adapter_add_up(tmp_path: Path) -> None:
    for name, ids in (("base", [1, 2]), ("lora", [2, 3])):
        (tmp_path / name).mkdir()
        (tmp_path / name / TUNING_FILE).write_text(json.dumps({"training": {"coco_ids": ids}, "recipe": "x"}))
    assert read_training(tmp_path / "base", tmp_path / "lora", "") == {"coco_ids": [1, 2, 3], "images": []}
    assert read_training(tmp_path) is None
    (tmp_path / TUNING_FILE).write_text(json.dumps({"training": {"coco_ids": 5}}))
    with pytest.raises(BadInput, match="lists"):
        read_training(tmp_path)


def test_what_a_tuning_file_gives_is_what_a_checkpoint_records(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "000000000139.jpg").write_bytes(b"image")
    row = {"image": "000000000139.jpg", "note": base64.b64encode(b"x").decode()}
    (tmp_path / "t.json").write_text(json.dumps([row, row]))
    record = read_training_file(tmp_path / "t.json", tmp_path / "i").record()
    assert record == {"coco_ids": [139], "images": [sha(b"image")]}
    (tmp_path / TUNING_FILE).write_text(json.dumps({"training": record}))
    assert read_training(tmp_path) == record
