import json
from collections import Counter

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import open_image
from mmalign_eval.plan import limited
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.stats import estimates
from tests.data.hub_files import picture
from tests.support import shared_data
from tests.support_score import scored

CAPTIONS = {
    7: ["A man with a red helmet on a small moped.", "Man riding a motor bike"],
    8: ["A young girl blows out a candle.", "A girl and a candle"],
    9: ["Two dogs run in a park.", "Dogs running outside in the park"],
}
KINDS = ("gaussian_noise", "defocus_blur", "contrast", "brightness")
DAMAGED = [f"{kind}/{severity}" for kind in KINDS for severity in (1, 3, 5)]


def coco_c(protocol="", few_shot=None):
    return TASKS.get("coco_c")(protocol, few_shot)


@pytest.fixture
def native(tmp_path):
    images = [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in CAPTIONS]
    rows = [{"image_id": n, "caption": c} for n, texts in CAPTIONS.items() for c in texts]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": rows}))
    (tmp_path / "val2014").mkdir()
    for image in images:
        (tmp_path / "val2014" / image["file_name"]).write_bytes(big_picture((image["id"] * 20, 90, 30)))
    return tmp_path


def big_picture(colour):
    """Corruptions need 32 pixels a side."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(colour))).resize((64, 48)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(path, task=None):
    return list((task or coco_c()).samples(Source("dir", str(path))))


def test_every_image_is_asked_about_thirteen_times(native):
    found = samples(native)
    assert Counter(s.part for s in found) == dict.fromkeys([*DAMAGED, "clean"], 3)
    assert {s.id for s in found if s.part == "gaussian_noise/1"} == {f"gaussian_noise/1/{n}" for n in CAPTIONS}
    assert Counter(s.cluster for s in found) == {"7": 13, "8": 13, "9": 13}
    assert all(s.data["references"] == CAPTIONS[int(s.cluster)] for s in found)
    assert len(limited(found, 2)) == 26, "--limit counts within parts"


def test_images_are_damaged_by_part_and_each_alike_every_time(native):
    by_id = {s.id: s.images[0] for s in samples(native)}
    again = {s.id: s.images[0] for s in samples(native)}
    assert by_id == again
    assert by_id["clean/7"].transforms == ()
    for part in DAMAGED:
        kind, severity = part.split("/")
        (name,) = by_id[f"{part}/7"].transforms
        assert name.split(":")[:3] == ["corrupt", kind, severity]
    assert by_id["gaussian_noise/1/7"].transforms != by_id["gaussian_noise/1/8"].transforms, "seeded by image"
    assert by_id["contrast/1/7"].transforms == by_id["contrast/1/8"].transforms
    clean = open_image(by_id["clean/7"]).tobytes()
    damaged = {part: open_image(by_id[f"{part}/7"]).tobytes() for part in DAMAGED if "contrast" not in part}
    assert len({clean, *damaged.values()}) >= 7, "a plain picture survives blur and contrast"


def test_the_protocols_crop_lies_on_top_of_the_damage(native):
    task = coco_c("paper", 0)
    sample = next(s for s in samples(native, task) if s.id == "brightness/5/8")
    (request,) = task.requests(sample)
    assert [t.split(":")[0] for t in request.prompt.images[0].transforms] == ["corrupt", "center_crop"]
    assert request.prompt.text == "Please provide a description of the picture."


def test_the_clean_pass_asks_what_the_caption_task_asks(native):
    train = {"images": [{"id": n} for n in range(50, 56)],
             "annotations": [{"image_id": n, "caption": f"train {n}"} for n in range(50, 56)]}  # fmt: skip
    (native / "annotations" / "captions_train2014.json").write_text(json.dumps(train))
    for protocol in ("official", "paper", "lmms"):
        task, plain = coco_c(protocol), TASKS.get("coco_caption")(protocol)
        clean = {s.cluster: task.requests(s) for s in samples(native, task) if s.part == "clean"}
        assert clean == {s.id: plain.requests(s) for s in plain.samples(Source("dir", str(native)))}


def records_of(task, found, answer):
    records = []
    for sample in found:
        record = task.record(sample, [Response("ok", text=answer(sample))])
        records.append({**record, "cluster": sample.cluster})
    task.finish(records)
    return {e.name: e for e in estimates(task.metrics(), records)}, records


def official(captions, references):
    """pycocoevalcap's own scorer; the captions here are plain words, so tokens are words."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    def tokens(text):
        return text.lower().replace(".", "")

    scorer = CiderScorer(n=4, sigma=6.0)
    for caption, refs in zip(captions, references, strict=True):
        scorer += (tokens(caption), list(map(tokens, refs)))
    return float(scorer.compute_score()[0])


def answer_of(sample):
    """More damage, worse answers; other words for each kind."""
    if sample.part == "clean":
        return sample.data["references"][0]
    kind, severity = sample.part.split("/")
    words = sample.data["references"][KINDS.index(kind) % 2].split()
    return " ".join(words[: max(1, len(words) - int(severity))])


def test_figures_are_the_official_scorers_pass_by_pass(native):
    task = coco_c()
    found = samples(native, task)
    values, records = records_of(task, found, answer_of)
    each = {}
    for part in [*DAMAGED, "clean"]:
        own = [s for s in found if s.part == part]
        each[part] = official([answer_of(s) for s in own], [s.data["references"] for s in own])
        assert values[f"{part}/CIDEr"].value == pytest.approx(each[part], abs=1e-9), part
        assert values[f"{part}/CIDEr"].n == 3
    mean = sum(each[part] for part in DAMAGED) / 12
    assert values["CIDEr"].value == pytest.approx(mean, abs=1e-9)
    assert values["relative_change"].value == pytest.approx(100 * (mean - each["clean"]) / each["clean"], abs=1e-9)
    assert values["relative_change"].value < 0
    assert values["contrast/CIDEr"].value == pytest.approx(sum(each[f"contrast/{s}"] for s in (1, 3, 5)) / 3, abs=1e-9)
    assert values["CIDEr"].clusters == 3
    assert set(task.headline) <= set(values)
    assert json.loads(json.dumps(records)) == records


def test_equal_answers_change_nothing_and_their_interval_is_a_point(native):
    task = coco_c()
    values, _ = records_of(task, samples(native, task), lambda s: s.data["references"][0])
    change = values["relative_change"]
    assert (change.value, change.low, change.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert values["CIDEr"].low < values["CIDEr"].high


def test_without_clean_answers_or_with_a_part_missing_there_is_no_figure(native):
    task = coco_c()
    found = samples(native, task)
    values, _ = records_of(task, [s for s in found if s.part != "clean"], answer_of)
    assert values["clean/CIDEr"].value is None
    assert values["relative_change"].value is None
    assert values["CIDEr"].value is not None
    values, _ = records_of(task, [s for s in found if s.part != "contrast/3"], answer_of)
    assert values["CIDEr"].value is None
    assert values["contrast/CIDEr"].value is None
    assert values["brightness/CIDEr"].value is not None


def results(part):
    """As COCO's own api writes a results file."""
    kind, _, severity = part.partition("/")
    texts = {7: "a man riding a motor bike", 8: f"a girl {kind}", 9: "dogs" if severity == "5" else "two dogs run"}
    return "[" + ",".join(f'{{"image_id":{n},"caption":"{text}"}}' for n, text in texts.items()) + "]"


def expected(part):
    rows = json.loads(results(part))
    return official([r["caption"] for r in rows], list(CAPTIONS.values()))


@pytest.mark.parametrize("name", ["{}_{}.json", "{}-{}.json", "{}/{}.json", "{}/{}/val2014.json", "run1_{}_{}_x.json",
                                  "{}_severity_{}.json", "{}/severity{}/val2014.json", "{}-s{}.json"])  # fmt: skip
def test_a_folder_of_results_in_the_spellings_around(native, tmp_path, name):
    folder = tmp_path / "answers"
    for part in DAMAGED:
        path = folder / name.format(*part.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(results(part))
    (folder / "notes.txt").write_text("not read")
    task = coco_c()
    source = Source("dir", str(native), images=False)
    found = task.submitted(AnswerFiles({"": folder}), source)
    assert (found.missing, found.unknown, len(found.samples)) == ([], [], 36)
    assert found.notes == ["no captions of the clean images: no relative change"]


def test_a_whole_submission_has_the_official_scorers_figures(native, tmp_path):
    folder = tmp_path / "answers"
    folder.mkdir()
    for part in [*DAMAGED, "clean"]:
        (folder / f"{part.replace('/', '_')}.json").write_text(results(part))
    values = scored(coco_c(), folder, native)
    for part in [*DAMAGED, "clean"]:
        assert values[f"{part}/CIDEr"] == pytest.approx(expected(part), abs=1e-9)
    assert values["CIDEr"] == pytest.approx(sum(map(expected, DAMAGED)) / 12, abs=1e-9)


def test_pairs_and_partial_submissions(native, tmp_path):
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    one.write_text(results("contrast/3"))
    two.write_text('[{"image_id": 7, "caption": "x"}, {"image_id": 70, "caption": "y"}]')
    files = AnswerFiles({"contrast/3": one, "gaussian_noise_5": two})
    found = coco_c().submitted(files, Source("dir", str(native), images=False))
    assert sorted(found.responses) == ["contrast/3/7", "contrast/3/8", "contrast/3/9", "gaussian_noise/5/7"]
    assert found.unknown == ["gaussian_noise/5/70"]
    assert len(found.missing) == 36 - 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no file there is named after a part, like gaussian_noise_1\.json"),
        ({"contrast_3.json": "[]", "contrast-3.json": "[]"}, "are both named after contrast/3"),
        ({"contrast_3.json": '[{"image_id": 7, "caption": "x"}, {"image_id": 7, "caption": "x"}]'}, "'7' occurs twice"),
        ({"contrast_3.json": '[\n{"image_id": 7'}, r"contrast_3\.json:2: not valid JSON"),
    ],
)
def test_bad_submissions_are_one_line(native, tmp_path, files, message):
    folder = tmp_path / "answers"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        coco_c().submitted(AnswerFiles({"": folder}), Source("dir", str(native), images=False))
    assert "\n" not in str(caught.value)


def test_one_file_and_an_unknown_part_are_refused(native, tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    source = Source("dir", str(native), images=False)
    with pytest.raises(BadInput, match="coco_c has 13 parts: give a folder, or PART=PATH"):
        coco_c().submitted(AnswerFiles({"": path}), source)
    with pytest.raises(BadInput, match=r"no part 'contrast/4' - did you mean 'contrast/"):
        coco_c().submitted(AnswerFiles({"contrast/4": path}), source)


def test_the_miniature_gives_sixty_images():
    task = coco_c()
    found = list(task.samples(DataChoice.parse(["mini"], only_mini=True).source("coco_c")))
    assert len(found) == 13 * 60
    assert min(open_image(found[0].images[0]).size) >= 32


def test_two_real_result_files_as_two_passes():
    folder = shared_data("cases") / "coco_fakecap"
    expected = json.loads((folder / "expected.json").read_text())["metrics"]
    files = {"clean": folder / "results_messy.json", "contrast/5": folder / "results_fakecap.json"}
    found = scored(coco_c(), files, folder / "captions_gt.json")
    assert found["clean/CIDEr"] == pytest.approx(expected["messy/CIDEr"]["value"], abs=1e-9)
    assert found["contrast/5/CIDEr"] == pytest.approx(expected["fakecap/CIDEr"]["value"], abs=1e-9)
