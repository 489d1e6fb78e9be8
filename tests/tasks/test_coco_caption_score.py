"""Submissions of captions, scored as `mmeval score` does; the files are written here, as other tools write them."""

import json
import math

import pytest

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.registry import TASKS
from mmalign_eval.roles import AnswerFiles
from tests.support import shared_data
from tests.support_score import scored

# as COCO's own api writes a results file
RESULTS = '[{"image_id":391895,"caption":"a man riding a motor bike"},{"image_id":60623,"caption":"a girl"}]'
REFERENCES = """
{"info": {"year": 2017}, "licenses": [],
 "images": [{"id": 391895, "file_name": "000000391895.jpg"}, {"id": 60623, "file_name": "000000060623.jpg"}],
 "annotations": [
  {"id": 1, "image_id": 391895, "caption": "A man with a red helmet on a motor bike."},
  {"id": 2, "image_id": 60623, "caption": "A young girl blows out a candle."},
  {"id": 3, "image_id": 391895, "caption": "Man riding a motor bike on a dirt road"}]}
"""


def coco_caption(protocol=""):
    return TASKS.get("coco_caption")(protocol)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def submitted(tmp_path, results=RESULTS, references=REFERENCES, task=None):
    gold = write(tmp_path / "gold" / "my_references.json", references)
    answers = write(tmp_path / "results.json", results)
    source = Source("dir", str(gold.parent), file=gold.name, images=False)
    return (task or coco_caption()).submitted(AnswerFiles({"": answers}), source)


def said(found):
    return {i: responses[0].text for i, responses in found.responses.items()}


def test_a_results_file_is_read_without_any_image(tmp_path):
    found = submitted(tmp_path)
    assert said(found) == {"391895": "a man riding a motor bike", "60623": "a girl"}
    assert [s.id for s in found.samples] == ["391895", "60623"]
    assert (found.missing, found.unknown) == ([], [])


@pytest.mark.parametrize("number", ['"391895"', '"000000391895"', '"COCO_val2014_000000391895.jpg"', "391895"])
def test_ids_as_tools_write_them(tmp_path, number):
    found = submitted(tmp_path, f'[{{"caption": "x", "image_id": {number}}}]')
    assert said(found) == {"391895": "x"}
    assert found.missing == ["60623"]


def test_ids_of_the_references_may_be_text_and_images_nameless(tmp_path):
    references = '{"images": [{"id": "a7"}], "annotations": [{"image_id": "a7", "caption": "A cat."}]}'
    assert said(submitted(tmp_path, '[{"image_id": "a7", "caption": "x"}]', references)) == {"a7": "x"}


def test_json_lines_are_read_too(tmp_path):
    gold = write(tmp_path / "gold.json", REFERENCES)
    answers = write(
        tmp_path / "r.jsonl", '{"image_id": 60623, "caption": "x\u2028y"}\n{"image_id": 391895, "caption": "z"}\n'
    )
    source = Source("dir", str(tmp_path), file=gold.name, images=False)
    assert len(coco_caption().submitted(AnswerFiles({"": answers}), source).responses) == 2


@pytest.mark.parametrize(
    "results",
    [
        '{"391895": "a man riding a motor bike", "60623": "a girl"}',
        '{"391895": [{"image_id": 391895, "caption": "a man riding a motor bike"}], "60623": ["a girl"]}',
        '{"overall": {"CIDEr": 1}, "imgToEval": {"391895": {"image_id": 391895, "caption": "a man riding a motor bike"}'
        ', "60623": {"image_id": 60623, "caption": "a girl"}}}',
        '[{"image": "val2017/000000391895.jpg", "caption": "a man riding a motor bike"},'
        ' {"image": "000000060623.jpg", "caption": "a girl"}]',
        '[{"image_id": 391895.0, "text": "a man riding a motor bike"}, {"image_id": 60623.0, "answer": "a girl"}]',
    ],
)
def test_results_as_other_tools_write_them(tmp_path, results):
    assert said(submitted(tmp_path, results)) == {"391895": "a man riding a motor bike", "60623": "a girl"}


def test_the_only_captions_file_of_a_folder_is_found(tmp_path):
    gold = tmp_path / "data"
    write(gold / "annotations" / "my_split.json", REFERENCES)
    write(gold / "annotations" / "instances.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}')
    write(gold / "broken.json", '["no"')  # whatever it is, it is no captions file
    answers = write(tmp_path / "results.json", RESULTS)
    source = Source("dir", str(gold), images=False)
    assert len(coco_caption().submitted(AnswerFiles({"": answers}), source).responses) == 2


def test_a_folder_of_answers_is_refused(tmp_path):
    with pytest.raises(BadInput, match="expected a file, found a folder"):
        coco_caption().submitted(
            AnswerFiles({"": tmp_path}), Source("dir", str(write(tmp_path / "g.json", REFERENCES).parent), images=False)
        )


def test_unknown_ids_are_told(tmp_path):
    found = submitted(tmp_path, '[{"image_id": 1, "caption": "x"}, {"image_id": 60623, "caption": "y"}]')
    assert (found.unknown, found.missing) == (["1"], ["391895"])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ('[{"image_id": 1, "caption": "x"}, {"image_id": 1, "caption": "y"}]', r"results\.json: \[1\]: id '1' occurs"),
        ('[{"image_id": 1, "caption": "x"}, {"image_id": "1", "caption": "y"}]', r"\[1\]: id '1' occurs twice"),
        ('[{"image_id": 1}]', r"results\.json: \[0\]: field 'caption' is missing"),
        ('[{"caption": "x"}]', r"\[0\]: field 'image_id' is missing"),
        ('[{"image_id": 1, "caption": null}]', r"\[0\]: expected the answer as text, found NoneType"),
        ('[{"image_id": true, "caption": "x"}]', r"\[0\]: image_id must be a number or text, found bool"),
        ('["x"]', r"\[0\]: expected an object with image_id and caption, found str"),
        ('[{"image_id": 1, "caption": "x"},\n{"image_id": 2, "capt', r"results\.json:2: not valid JSON"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, results, message):
    with pytest.raises(BadInput, match=message) as caught:
        submitted(tmp_path, results)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("[]", "no samples in"),
        ('{"images": [{"id": 1}]}', r"my_references\.json: field 'annotations' is missing"),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": []}]}', "field 'caption' is missing"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": [{"image_id": 1, "caption": "x"}]}', "occurs twice"),
        ("[1]", r"\[0\]: expected a JSON object"),
    ],
)
def test_references_in_another_layout_are_named(tmp_path, references, message):
    with pytest.raises(BadInput, match=message):
        submitted(tmp_path, references=references)


def test_a_folder_may_hold_its_references_under_any_name(tmp_path):
    write(tmp_path / "captions_gt.json", REFERENCES)
    write(tmp_path / "expected.json", '{"CIDEr": 1}')
    answers = write(tmp_path / "results.json", RESULTS)
    source = Source("dir", str(tmp_path), images=False)
    assert len(coco_caption().submitted(AnswerFiles({"": answers}), source).responses) == 2
    write(tmp_path / "other_gt.json", REFERENCES)
    with pytest.raises(BadInput, match=r"captions_gt\.json and other_gt\.json both hold captions: name one"):
        coco_caption().submitted(AnswerFiles({"": answers}), source)
    with pytest.raises(BadInput, match=r"dataset_coco\.json .*not found"):
        list(coco_caption().samples(Source("dir", str(tmp_path))))  # a run needs a layout that it knows


def test_karpathys_file_gives_its_test_split_and_needs_no_training_captions(tmp_path):
    rows = [{"filename": f"COCO_val2014_{i:012d}.jpg", "filepath": "val2014", "cocoid": i, "split": split,
             "sentences": [{"raw": "A cat."}]} for i, split in ((7, "test"), (8, "val"))]  # fmt: skip
    references = json.dumps({"images": rows, "dataset": "coco"})
    found = submitted(tmp_path, '[{"image_id": 7, "caption": "\\"a\\" cat"}]', references, coco_caption("paper"))
    assert [s.id for s in found.samples] == ["7"]
    assert coco_caption("paper").record(found.samples[0], found.responses["7"])["caption"] == "a cat"


def test_the_flat_lists_are_read_by_content(tmp_path):
    references = '[{"image_name": "COCO_test2014_000000000009.jpg", "image_id": 9, "captions": ["A dog."]}]'
    assert said(submitted(tmp_path, '[{"image_id": 9, "caption": "x"}]', references)) == {"9": "x"}


def test_only_answered_images_count_and_give_the_frequencies(tmp_path):
    """CIDEr by hand: two of three images are answered, so N = 2 and the third's references are not there."""
    gold = json.loads(REFERENCES)
    gold["images"].append({"id": 5, "file_name": "5.jpg"})
    gold["annotations"] = [
        {"image_id": 391895, "caption": "red cat"},
        {"image_id": 60623, "caption": "blue dog"},
        {"image_id": 5, "caption": "red dog"},
    ]
    path = write(tmp_path / "gt.json", json.dumps(gold))
    results = write(
        tmp_path / "r.json", '[{"image_id": 391895, "caption": "red dog"}, {"image_id": 60623, "caption": "x"}]'
    )
    found = scored(coco_caption(), results, path)
    # unigrams: red and cat of one reference set, dog of the other: all weigh ln 2, cosine 1/2, no bigram shared
    assert found["CIDEr"] == pytest.approx(10 * (0.5 / 4) / 2, abs=1e-12)
    assert found["Bleu_1"] == pytest.approx((1 / 3) * math.exp(1 - 4 / 3), abs=1e-6)
    assert set(found) == {"CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L"}


@pytest.mark.parametrize("case", ["fakecap", "messy"])
def test_whole_case_agrees_with_the_official_figures(case):
    folder = shared_data("cases") / "coco_fakecap"
    found = scored(coco_caption(), folder / f"results_{case}.json", folder)
    for name, value in found.items():
        wanted = json.loads((folder / "expected.json").read_text())["metrics"][f"{case}/{name}"]
        assert value == pytest.approx(wanted["value"], abs=1e-9), name
