"""Our CIDEr against pycocoevalcap's scorer, and what must hold of it on any captions."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics import ptb
from mmalign_eval.metrics.captions import CAPTION_METRICS, score_captions, score_passes
from mmalign_eval.metrics.cider import Cider, cider
from mmalign_eval.stats import estimates

WORDS = ["a", "the", "cat", "dog", "sits", "on", "mat", "mat's"]
text = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
image = st.tuples(text, st.lists(text, min_size=1, max_size=5))
image_set = st.lists(image, min_size=1, max_size=7)


def official(hypotheses, references):
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    if not any(ref.split() for refs in references for ref in refs):
        return [0.0] * len(hypotheses)  # it fails without a single reference word
    scorer = CiderScorer(n=4, sigma=6.0)
    for hypothesis, refs in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, list(refs))
    return [float(value) for value in scorer.compute_score()[1]]


def plain(hypotheses, references):
    """CIDEr-D from its definition, word by word: no shared code, no numbering of n-grams, dense loops."""

    def grams(words, n):
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    out = []
    sets = [[ref.split() for ref in refs] for refs in references]
    for hypothesis, refs in zip(hypotheses, sets, strict=True):
        words, total = hypothesis.split(), 0.0
        for ref in refs:
            for n in range(1, 5):
                h, r = grams(words, n), grams(ref, n)

                def weight(gram, n=n):
                    df = sum(any(gram in grams(other, n) for other in others) for others in sets)
                    return math.log(len(sets)) - math.log(max(1, df))

                h_norm = math.sqrt(sum((h.count(g) * weight(g)) ** 2 for g in set(h)))
                r_norm = math.sqrt(sum((r.count(g) * weight(g)) ** 2 for g in set(r)))
                shared = sum(min(h.count(g), r.count(g)) * r.count(g) * weight(g) ** 2 for g in set(h) & set(r))
                delta = max(0, len(words) - 1) - max(0, len(ref) - 1)
                if h_norm and r_norm:
                    total += shared / (h_norm * r_norm) * math.exp(-(delta**2) / 72)
        out.append(10 * total / 4 / len(refs))
    return out


@settings(max_examples=300, deadline=None)
@given(image_set)
def test_equals_the_official_scorer_and_the_definition(images):
    hypotheses, references = [h for h, _ in images], [refs for _, refs in images]
    found = cider(hypotheses, references)
    assert found == pytest.approx(official(hypotheses, references), abs=1e-9)
    assert found == pytest.approx(plain(hypotheses, references), abs=1e-9)
    assert all(0 <= value <= 10 + 1e-9 for value in found)


@settings(max_examples=200, deadline=None)
@given(image_set, st.randoms(use_true_random=False))
def test_order_of_images_changes_nothing(images, rng):
    order = list(range(len(images)))
    rng.shuffle(order)
    before = cider([h for h, _ in images], [refs for _, refs in images])
    after = cider([images[i][0] for i in order], [images[i][1] for i in order])
    assert after == [before[i] for i in order], "bit for bit"


def test_references_are_scored_any_number_of_times():
    references = [["a cat on a mat", "the cat"], ["two dogs run", "dogs"], ["a man rides a bike"]]
    scorer = Cider(references)
    first = [scorer.score(i, "a cat on a bike") for i in range(3)]
    assert [scorer.score(i, "unknown words only") for i in range(3)] == [0.0, 0.0, 0.0]
    assert [scorer.score(i, "a cat on a bike") for i in range(3)] == first == cider(["a cat on a bike"] * 3, references)


@pytest.fixture
def tokenizer(monkeypatch):
    """Counts texts handed to the tokeniser, which here only lowers and splits."""
    seen = []

    def tokenize(texts):
        seen.append(list(texts))
        return [" ".join(t.lower().replace(".", " ").split()) for t in texts]

    monkeypatch.setattr(ptb, "tokenize", tokenize)
    return seen


def made(part, captions, references):
    return [{"part": part, "image": str(i), "caption": c, "references": references[i]} for i, c in captions.items()]


REFERENCES = {
    0: ["A cat on a mat.", "The cat sits."],
    1: ["Two dogs run in a park.", "Dogs running outside."],
    2: ["A man rides a bike in a park."],
}


def test_passes_share_their_references(tokenizer):
    parts = {
        "clean": {0: "a cat on a mat", 1: "two dogs run", 2: "a man rides"},
        "a/1": {2: "a man", 0: "a mat", 1: ""},
        "b/1": {0: "dogs", 1: "dogs", 2: "dogs"},
    }
    records = [r for part, captions in parts.items() for r in made(part, captions, REFERENCES)]
    score_passes(records, "part")
    assert len(tokenizer) == 1
    assert len(tokenizer[0]) == 5 + 9, "each reference once, however many passes"
    references = [[t.lower().replace(".", "") for t in refs] for refs in REFERENCES.values()]
    for part, captions in parts.items():
        found = {r["image"]: r["CIDEr"] for r in records if r["part"] == part}
        wanted = official([captions[i] for i in range(3)], references)
        assert [found[str(i)] for i in range(3)] == pytest.approx(wanted, abs=1e-9), part


def test_a_pass_over_fewer_images_has_their_frequencies(tokenizer):
    records = made("whole", {0: "a cat", 1: "two in park", 2: "a man"}, REFERENCES)
    part = made("part", {0: "a cat", 1: "two in park"}, REFERENCES)
    score_passes([*records, *part], "part")
    references = [[t.lower().replace(".", "") for t in REFERENCES[i]] for i in range(3)]
    assert [r["CIDEr"] for r in part] == pytest.approx(official(["a cat", "two in park"], references[:2]), abs=1e-9)
    assert [r["CIDEr"] for r in records[:2]] != [r["CIDEr"] for r in part]


def miniature_captions():
    """Five references and a caption of another wording for each image of the miniature."""
    import mmalign_eval.miniature as mini

    path = Path(mini.data_dir()) / "coco" / "dataset_coco.json"
    rows = [row for row in json.loads(path.read_text())["images"] if row["split"] == "test"]
    rng = random.Random(0)
    records = []
    for row in rows:
        texts = [sentence["raw"] for sentence in row["sentences"]]
        words = rng.choice(texts).split()
        del words[rng.randrange(len(words))]
        records.append({"image": str(row["cocoid"]), "caption": " ".join(words), "references": texts})
    return records


@pytest.mark.slow
def test_all_metrics_equal_pycocoevalcaps_own_classes(monkeypatch):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider as TheirCider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    from mmalign_eval.metrics.java import find_java

    records = miniature_captions()
    monkeypatch.setenv("PATH", str(Path(find_java()).parent), prepend=":")
    references = PTBTokenizer().tokenize({r["image"]: [{"caption": c} for c in r["references"]] for r in records})
    captions = PTBTokenizer().tokenize({r["image"]: [{"caption": r["caption"]}] for r in records})
    theirs = {f"Bleu_{n}": v for n, v in enumerate(Bleu(4).compute_score(references, captions, verbose=0)[0], start=1)}
    for name, scorer in (("CIDEr", TheirCider()), ("METEOR", Meteor()), ("ROUGE_L", Rouge())):
        theirs[name] = float(scorer.compute_score(references, captions)[0])
    score_captions(records)
    ours = estimates(CAPTION_METRICS, [{**r, "cluster": r["image"]} for r in records])
    assert len(records) >= 100
    assert {e.name: e.value for e in ours} == pytest.approx(theirs, abs=1e-9)
