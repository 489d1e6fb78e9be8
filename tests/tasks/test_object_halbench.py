import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput, ImageError
from mmalign_eval.images import digest, open_image, read_bytes
from mmalign_eval.judges.base import Judge
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import ImageRef, Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.scoring import aggregate, judged, row
from tests.data.hub_files import picture
from tests.support import shared_data
from tests.support_score import scored
from tests.tasks.coco_objects_case import IMAGES, OFFICIAL_LIKE, name, write_annotations, write_coco

ROLE = TASKS.get("object_halbench").judge
DESCRIBE = "Provide a thorough description of the given image."
ASKED = {42: DESCRIBE, 139: "What is this photo about? Please answer in great detail.", 73: "Describe it."}
SAID = {
    42: "Two men, a man, a dog and a bus. Assistant:",  # man twice, dog, bus(!); "men" is nothing
    73: "A cat and a puppy sit on two chairs.",  # cat, puppy(!), chair
    139: "An empty street at night.",
}
# By hand; the objects are person, dog, dining table | cat, chair | none.
BY_HAND = {
    "CHAIRs_refine": 100.0, "CHAIRs": 200 / 3, "CHAIRi": 200 / 6, "recall": 400 / 5, "len": (9 + 9 + 5) / 3,
    "correct_rate": 0.0, "object_correct_rate": 400 / 6, "naming": 200 / 3, "response_f1": 0.0,
    "object_f1": 2 * 80 * (400 / 6) / (80 + 400 / 6),
}  # fmt: skip


def halbench(protocol=""):
    return TASKS.get("object_halbench")(protocol)


def samples(path, task=None):
    return list((task or halbench()).samples(Source("dir", str(path))))


def write_prompts(folder, **more):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"idx": i, "question": q, "image_id": n, "org_idx": 7 * i} for i, (n, q) in enumerate(ASKED.items())]
    (folder / "prompts_300.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_embedded(folder, images=None):
    folder.mkdir(parents=True, exist_ok=True)
    images = images or {n: base64.b64encode(picture((n, 1, 2), "JPEG")).decode() for n in ASKED}
    rows = [{"org_idx": i, "image_id": n, "image": images[n], "question": q} for i, (n, q) in enumerate(ASKED.items())]
    file = folder / "obj_halbench_300_with_image.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_prompts_with_a_coco_folder_beside_them(tmp_path):
    write_coco(tmp_path)
    write_prompts(tmp_path / "object_halbench")
    task = halbench()
    found = samples(tmp_path, task)
    assert [(s.id, s.data["question"]) for s in found] == [(str(n), q) for n, q in ASKED.items()]
    assert found[0].data["objects"] == ["dining table", "dog", "person"]
    assert read_bytes(found[0].images[0]) == (tmp_path / "coco" / "val2014" / name(42)).read_bytes()
    assert task.signature_extra() == {"synonyms": "built-in"}


def test_the_official_file_with_its_images_inside(tmp_path):
    write_annotations(tmp_path)
    write_embedded(tmp_path)
    found = samples(tmp_path)
    assert [s.id for s in found] == [str(n) for n in ASKED]
    for sample in found:
        (image,) = sample.images
        assert read_bytes(image) == picture((int(sample.id), 1, 2), "JPEG")
        assert open_image(image).size == (16, 12)
    assert len({digest(s.images[0]) for s in found}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not base64!", r"with_image\.jsonl:2: field 'image' is not base64"),
        ("abc", r":2: field 'image' is not base64"),
        (base64.b64encode(b"hello world").decode(), ":2: field 'image' is base64, but of no JPEG"),
        ("", ":2: field 'image' is base64, but of no JPEG"),
        (7, ":2: field 'image': expected an image as base64 text, found int"),
    ],
)
def test_garbage_for_an_image_is_named_with_its_line(tmp_path, text, message):
    good = base64.b64encode(picture((1, 1, 1))).decode()
    write_annotations(tmp_path)
    write_embedded(tmp_path, {42: good, 139: text, 73: good})
    with pytest.raises(BadInput, match=message) as caught:
        samples(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_after_it_was_read_is_an_image_error(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"image": "%%"}\n')
    for line in (1, 6):
        with pytest.raises(ImageError, match=f"line {line} of .* holds no base64 image"):
            read_bytes(ImageRef(str(file), line - 1, "image"))


def test_without_prompts_a_set_of_the_same_making_is_drawn_and_marked(tmp_path):
    write_coco(tmp_path, {n: ([1], ["A man"]) for n in range(1, 25)})
    task = halbench()
    found = samples(tmp_path, task)
    assert len({s.id for s in found}) == 24
    assert len({s.data["question"] for s in found}) == 8
    assert [s.id for s in found] == [s.id for s in samples(tmp_path)]
    assert "not the official 300 prompts" in task.signature_extra()["edition"]


def test_the_protocols(tmp_path):
    write_coco(tmp_path)
    write_prompts(tmp_path)
    sample = samples(tmp_path)[0]
    (official,), (paper,), (greedy,) = (halbench(p).requests(sample) for p in ("official", "paper", "greedy"))
    assert official.prompt.text == paper.prompt.text == greedy.prompt.text == DESCRIBE
    assert (official.params.num_beams, official.params.max_new_tokens, official.params.sampled) == (3, 1024, False)
    assert (paper.prompt.template, paper.prompt.images[0].transforms) == ("llava_v1", ("center_crop",))
    assert (paper.params.num_beams, greedy.params.num_beams, greedy.params.max_new_tokens) == (1, 1, 1024)


def test_the_miniature_is_read_by_the_same_code():
    found = list(halbench().samples(DataChoice.parse(["mini"], only_mini=True).source("object_halbench")))
    assert len(found) == 200
    assert open_image(found[0].images[0]).mode == "RGB"


def submit(folder, rows, file="answers.jsonl", **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AnswerFiles({"": folder / file}, options)


def table_file(folder):
    (folder / "official.txt").write_text(OFFICIAL_LIKE)
    return str(folder / "official.txt")


FORMS = {
    "captions": [{"image_id": n, "caption": t.removesuffix(" Assistant:")} for n, t in SAID.items()],
    "RLHF-V": [{"question": ASKED[n], "answer": t, "image_id": n, "org_idx": 1} for n, t in SAID.items()],
    "Muffin": [{"prompt": ASKED[n], "text": t, "metainfos": {"image_id": n}} for n, t in SAID.items()],
}


@pytest.mark.parametrize("form", FORMS)
def test_submissions(tmp_path, form):
    write_annotations(tmp_path / "annotations")
    files = submit(tmp_path / "out", FORMS[form], synonyms=table_file(tmp_path))
    found = scored(halbench(), files, tmp_path)
    assert {k: v for k, v in found.items() if "@" not in k} == pytest.approx(BY_HAND)
    assert found["CHAIRi@64"] == found["CHAIRi"]
    assert not any(key.startswith("llm/") for key in found), "no model extracted anything"


def test_answers_without_images_are_taken_in_the_order_of_the_prompts(tmp_path):
    write_annotations(tmp_path)
    write_prompts(tmp_path)
    rows = [{"prompt": ASKED[n], "text": SAID[n]} for n in ASKED]
    files = submit(tmp_path / "out", rows, synonyms=table_file(tmp_path))
    assert scored(halbench(), files, tmp_path)["CHAIRi"] == pytest.approx(BY_HAND["CHAIRi"])
    with pytest.raises(BadInput, match=r"answers\.jsonl:1: field 'image_id' is missing"):
        scored(halbench(), submit(tmp_path / "out", rows[:2]), tmp_path)


def test_the_prompts_say_what_was_to_be_answered(tmp_path):
    write_annotations(tmp_path)
    write_prompts(tmp_path)
    files = submit(tmp_path / "out", [*FORMS["captions"][:2], {"image_id": 5, "caption": "a dog"}])
    read = halbench().submitted(files, Source("dir", str(tmp_path), images=False))
    assert (read.missing, read.unknown) == (["139"], ["5"])


def test_a_prompt_whose_image_is_nowhere_annotated(tmp_path):
    write_annotations(tmp_path, {42: IMAGES[42]})
    write_prompts(tmp_path)
    with pytest.raises(BadInput, match=r"prompts_300\.jsonl:2: image 139 has no objects in the data"):
        halbench().submitted(submit(tmp_path / "out", FORMS["captions"]), Source("dir", str(tmp_path), images=False))


def test_an_image_may_be_asked_about_several_times(tmp_path):
    write_annotations(tmp_path)
    rows = [{"image_id": 42, "question": q, "answer": t} for q, t in (("A?", "a dog"), ("B?", "a bus"), ("C?", "a"))]
    files = submit(tmp_path / "out", rows, synonyms=table_file(tmp_path))
    found = scored(halbench(), files, tmp_path)
    # objects of 42, three times: person, dog, dining table
    assert [found[k] for k in ("CHAIRs", "CHAIRs_refine", "CHAIRi")] == pytest.approx([100 / 3, 50, 50])
    assert found["recall"] == pytest.approx(100 / 9)
    read = halbench().submitted(files, Source("dir", str(tmp_path), images=False))
    assert [(s.id, s.cluster) for s in read.samples] == [("42", ""), ("42/2", "42"), ("42/3", "42")]


def test_prompts_of_one_image_are_told_apart_by_question(tmp_path):
    write_coco(tmp_path)
    folder = tmp_path / "object_halbench"
    folder.mkdir()
    asked = [{"question": q, "image_id": n} for n, q in ((42, "A?"), (73, "A?"), (42, "B?"))]
    (folder / "prompts_300.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    assert [s.id for s in samples(tmp_path)] == ["42", "73", "42/2"]
    rows = [{"image_id": 42, "question": "<image>./</image>B?", "answer": "second"},
            {"image_id": 42, "question": "<image>./</image>A?", "answer": "first"}]  # fmt: skip
    read = halbench().submitted(submit(tmp_path / "out", rows), Source("dir", str(tmp_path), images=False))
    assert {i: r[0].text for i, r in read.responses.items()} == {"42": "first", "42/2": "second"}
    assert read.missing == ["73"]


@pytest.mark.parametrize("more", [{}, {"question": "A?"}, {"idx": 3}, {"question": "A?", "idx": 3}])
def test_the_same_prompt_twice_is_refused(tmp_path, more):
    write_annotations(tmp_path)
    row = {"image_id": 42, "answer": "a dog", **more}
    with pytest.raises(BadInput, match=r"answers\.jsonl:2: id '42' occurs twice"):
        scored(halbench(), submit(tmp_path / "out", [row, row]), tmp_path)


# --- the extractor ----------------------------------------------------------------------------------------------------


class Extractor(Judge):
    """Replies of a model that were written down, one list a run."""

    def __init__(self, *runs):
        self.runs = runs

    def name_for(self, role):
        return role.official

    def verdicts(self, role, records):
        asked = [role.ask(record) for record in records]
        replies = [[role.parse(run[int(r["id"])]) for run in self.runs] for r in records]
        return [
            reply if request else [role.unasked] * len(self.runs) for request, reply in zip(asked, replies, strict=True)
        ]


def extracted(tmp_path, judge, said=None):
    write_annotations(tmp_path)
    files = submit(tmp_path / "out", FORMS["RLHF-V"], synonyms=table_file(tmp_path))
    task = halbench()
    read = task.submitted(files, Source("dir", str(tmp_path), images=False))
    texts = {s.id: (said or {}).get(int(s.id)) for s in read.samples}
    given = {s.id: [Response("ok", text=texts[s.id])] if texts[s.id] else read.responses[s.id] for s in read.samples}
    rows = [row(task, s, given[s.id]) for s in read.samples]
    judged(task, rows, judge)
    values = {e.name: e.value for e in aggregate(task, [one["record"] for one in rows])}
    return task, values


GOOD = {
    42: '["men", "man", "a dog", "buses", "bus"]',  # man, dog, bus(!), once each
    73: 'The objects are:\n["two cats", "dining tables", "chair leg"]',  # cat, dining table(!)
    139: "()",
}


def test_extracted_objects_have_metrics_of_their_own(tmp_path):
    task, values = extracted(tmp_path, Extractor(GOOD))
    assert values["CHAIRi"] == pytest.approx(BY_HAND["CHAIRi"]), "the rules' numbers stay"
    assert values["llm/CHAIRi"] == pytest.approx(200 / 5)
    assert (values["llm/CHAIRs_refine"], values["llm/recall"]) == (100.0, pytest.approx(60.0))
    assert (values["llm/n_failed"], values["llm/CHAIRs_refine_std"]) == (0.0, 0.0)
    assert set(task.headline) <= set(values)
    assert task.headline[:2] == ("llm/CHAIRs_refine", "llm/CHAIRi")


def test_a_failed_extraction_leaves_the_official_number_undefined(tmp_path):
    _, values = extracted(tmp_path, Extractor({**GOOD, 73: "I see a cat and a table."}))
    assert (values["llm/CHAIRi"], values["llm/n_failed"]) == (None, 1.0)
    assert values["llm/CHAIRi_answered"] == pytest.approx(100 / 3)


def test_several_runs_are_pooled_and_their_spread_told(tmp_path):
    _, values = extracted(tmp_path, Extractor(GOOD, {**GOOD, 42: '["dog"]'}))
    assert values["llm/CHAIRs_refine"] == pytest.approx(75.0)
    assert values["llm/CHAIRs_refine_std"] == pytest.approx(25.0)


def test_three_words_are_not_asked_about(tmp_path):
    _, values = extracted(tmp_path, Extractor({**GOOD, 139: '["dog"]'}), said={139: "a big dog"})
    assert values["llm/CHAIRi"] == pytest.approx(200 / 5)
    assert ROLE.ask({"text": "one two three", "question": "?"}) is None


def test_the_question_to_the_extractor():
    request = ROLE.ask({"text": "A {question} of a dog lies here.", "question": DESCRIBE})
    prompt = request.prompt
    assert (prompt.text, prompt.images) == ("", ())
    assert prompt.system.startswith(
        "You are an expert in image objects extraction according to a question answer pair."
    )
    assert f"[Start of Question]\n\n<image> {DESCRIBE}\n\n[End of Question]" in prompt.system
    assert (
        "[Start of Examiner's Answer]\n\nA {question} of a dog lies here.\n\n[End of Examiner's Answer]\n\n\nAssume"
        in (prompt.system)
    )
    assert prompt.system.endswith("5. You should return an empty JSON list () if no visible objects can be found.\n")
    assert (request.params.temperature, request.params.max_new_tokens) == (0.2, 512)
    assert ROLE.again(request, 3).params.seed != request.params.seed


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ('["dog", "cat"]', ["dog", "cat"]), ("[]", []), ("()", []), (" ()\n", []), ('Sure:\n["dog"]', ["dog"]),
        ('["dog"]\nThat is all.', None), ("dog, cat", None), ("", None), ('["dog"', None), ("3", None), ("null", None),
        ('[1, "dog"]', ["1", "dog"]), ('{"dog": 1}', ["dog"]), ("[" * 100_000, None), ('["dog"]' * 2, None),
        ('```json\n["dog",\n "cat"]\n```', ["dog", "cat"]), ('```json\n["dog"\n```', None),
    ],
)  # fmt: skip
def test_replies_are_read_as_the_tool_reads_them(reply, names):
    assert ROLE.parse(reply) == names


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("[]{}\"',() \n\\eE0123456789-+.dogNul", max_size=40))
def test_no_reply_breaks_the_parser(reply):
    found = ROLE.parse(reply)
    assert found is None or all(isinstance(name, str) for name in found)


def test_the_official_prompts(tmp_path):
    real = shared_data("object_halbench")
    rows = [json.loads(line) for line in (real / "prompts_300.jsonl").open()]
    images = {row["image_id"]: ([18], ["A dog and a brother"]) for row in rows}
    write_annotations(tmp_path, images)
    for file in ("prompts_300.jsonl", "synonyms_refine.txt"):
        (tmp_path / file).symlink_to(real / file)
    task = halbench()
    said = [{"image_id": row["image_id"], "caption": "A dog, a pedestrian, a remote control."} for row in rows]
    values = scored(task, submit(tmp_path / "out", said), tmp_path)
    assert task.signature_extra() == {"synonyms": "synonyms_refine.txt (RLHF-V)"}
    assert values["CHAIRi"] == pytest.approx(100 / 3)
    assert values["recall"] == pytest.approx(100.0)
    from mmalign_eval.tasks.object_halbench import PROMPTS

    assert {row["question"] for row in rows} == set(PROMPTS)
