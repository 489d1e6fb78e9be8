"""CHAIR's words, singulars and objects, against what the official tools do."""

import importlib.util
import json
import random
import re
from importlib import metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.chair.objects import default_table, parse_table
from mmalign_eval.metrics.chair.singular import SINGULARISERS, chair, rlhfv
from mmalign_eval.metrics.chair.tokens import tokenise
from tests.support import shared_data

TABLE = "\n".join(
    [
        "person, man, woman, people", "motorcycle, scooter,  motor bike, moped", "airplane, jet", "bus, minibus",
        "train", "bench", "bird", "dog", "horse", "bear", "tie, bow, bow tie", "skis, ski", "sports ball, ball",
        "tennis racket, racket", "wine glass", "hot dog", "cake,  cheesecake, cupcake", "chair, seat, stool",
        "potted plant", "dining table, table", "toilet", "cell phone, phone, iPhone", "oven, stove, stove top oven",
        "couch, sofa, chesterfield ", "remote, remote control", "",
    ]
)  # fmt: skip
CHAIR, RLHFV = parse_table(TABLE, "chair"), parse_table(TABLE, "rlhfv")
PIECES = [
    *re.findall(
        r"\S+",
        "dog cat's it'll don't 'tis 'twas cannot gonna wanna 3,000 10:30 a—b a-b a/b e.g. ... .. . ! ? \" ' '' `` ` ( "
        ") [ ] { < > » ” ’ « “ ‘ , : ; -- - $ % & * @ # 'a 'donut rock'o d'ye more'n x's 's 'd gimme gotta s' 'n' _ é "
        "'re n't ’s",
    ),
    *(" ", "lemme\t"),
]


def nodes(table, text):
    return [node for _, node in table.mentions(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, a Dog.", "a man , a dog ."),
        ("the dog's bowl isn't here; it'll do", "the dog 's bowl is n't here ; it 'll do"),
        ("a 'donut and 'a' sail—orange a/b a-b", "a 'donut and ' a ' sail—orange a/b a-b"),
        ('He said "hot dog" (twice).', "he said `` hot dog '' ( twice ) ."),
        ("One dog. Two cats! Three?\n\nFour birds", "one dog . two cats ! three ? four birds"),
        ("It costs $3,000 at 10:30... cannot", "it costs $ 3,000 at 10:30 ... can not"),
        ("", ""),
    ],
)
def test_words_are_those_of_the_nltk_that_the_official_code_used(text, words):
    assert tokenise(text) == words.split()


def nltk_words():
    """nltk's word rules for one sentence, of a release before 3.10."""
    if not importlib.util.find_spec("nltk") or tuple(map(int, metadata.version("nltk").split(".")[:2])) >= (3, 10):
        pytest.skip("needs nltk < 3.10")
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer().tokenize


def test_words_are_nltks_for_odd_sentences():
    theirs, rng = nltk_words(), random.Random(1)
    for _ in range(4_000):
        text = "".join(rng.choice(PIECES) + rng.choice(["", " ", " "]) for _ in range(rng.randint(1, 8))).strip()
        ours = [word for part in _as_split(text) for word in theirs(part)]
        assert tokenise(text) == ours, text


def _as_split(text):
    """Our sentences: nltk's own splitter needs data that is not installed."""
    from mmalign_eval.metrics.chair.tokens import _sentences

    return _sentences(text.lower())


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_no_text_breaks_the_rules(text):
    for table in (CHAIR, RLHFV):
        found = table.mentions(text)
        assert all(table.category[word] == node for word, node in found)
        assert table.mentions(text) == found
        table.phrases([text])


def test_long_runs_are_read_in_reasonable_time():
    for text in (".)" * 50_000, ". " * 50_000, ".)" + " " * 100_000 + "x", "'" * 100_000, "a" * 100_000 + "s"):
        assert isinstance(CHAIR.mentions(text), list)


@pytest.mark.parametrize(
    ("word", "by_pattern", "by_wordnet"),
    [
        ("bus", "bu", "bus"), ("buses", "bus", "bus"), ("airbus", "airbu", "airbus"), ("glass", "glas", "glass"),
        ("glasses", "glass", "glass"), ("people", "person", "people"), ("men", "man", "men"),
        ("women", "woman", "woman"),
        ("children", "child", "child"), ("teeth", "tooth", "teeth"), ("sports", "sport", "sport"),
        ("tennis", "tenni", "tennis"), ("skis", "ski", "ski"), ("scissors", "scissors", "scissors"),
        ("knives", "knife", "knife"), ("geese", "goose", "goose"), ("mice", "mouse", "mouse"), ("oxen", "ox", "ox"),
        ("couches", "couch", "couch"), ("benches", "bench", "bench"), ("toothbrushes", "toothbrush", "toothbrush"),
        ("puppies", "puppy", "puppy"), ("ties", "ty", "tie"), ("pies", "py", "pie"), ("sheep", "sheep", "sheep"),
        ("vases", "vase", "vas"), ("broccoli", "broccoli", "broccoli"), ("donuts", "donut", "donut"),
        ("sandwiches", "sandwich", "sandwich"), ("taxis", "taxi", "taxi"), ("canoes", "cano", "canoe"),
        ("bikers", "biker", "bikers"), ("ears", "ears", "ear"), ("your", "ymy", "your"),
        ("police", "polouse", "police"),
        ("its", "it", "it"), ("sits", "sit", "sits"), ("calves", "calf", "calf"), ("buffaloes", "buffalo", "buffalo"),
    ],
)  # fmt: skip
def test_quirks_of_the_two_singularisers(word, by_pattern, by_wordnet):
    assert (chair(word), rlhfv(word)) == (by_pattern, by_wordnet)


def read_singulars(name):
    rows = (shared_data("chair") / f"singular_{name}.tsv").read_text().splitlines()
    return dict(row.split("\t") for row in rows if not row.startswith("#"))


@pytest.mark.parametrize("name", ["chair", "rlhfv"])
def test_singulars_are_those_of_the_official_tools_for_every_tabulated_word(name):
    tables = {other: read_singulars(other) for other in SINGULARISERS}
    words = {*tables["chair"], *tables["rlhfv"]}
    for file in (shared_data("chair") / "synonyms.txt", shared_data("object_halbench") / "synonyms_refine.txt"):
        words |= {word.lower() for word in file.read_text().replace(",", " ").split()}
    wrong = {w: SINGULARISERS[name](w) for w in words if SINGULARISERS[name](w) != tables[name].get(w, w)}
    assert len(words) > 2400
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "by_chair", "by_rlhfv"),
    [
        ("A bus and two buses.", ["bus"], ["bus", "bus"]),
        ("Two wine glasses, one wine glass", ["wine glass", "wine glass"], ["wine glass", "wine glass"]),
        ("men, people and a woman", ["person"] * 3, ["person", "person"]),
        ("a baby bear, an adult dog, a passenger train", ["bear", "dog", "train"], ["bear", "dog", "train"]),
        ("a bow tie on a tie", ["tie", "tie"], ["tie", "tie"]),
        ("The seat of the toilet. A stool.", ["toilet", "chair"], ["toilet", "chair"]),
        ("a toilet seat", ["toilet"], ["toilet"]),
        ("a sports ball and a tennis racket", ["sports ball", "tennis racket"], ["sports ball", "tennis racket"]),
        ("a stove top oven", ["oven", "oven"], ["oven", "oven"]),
        ("a cheesecake, a cupcake", ["cake"], ["cake", "cake"]),  # " cheesecake" has a blank that CHAIR keeps
        ("a motor bike", [], ["motorcycle"]),
        ("a chesterfield", ["couch"], ["couch"]),  # the line's end is stripped by both
        ("an iPhone", [], []),
        ("the home plate, a train track", [], []),
        ("a dining table", ["dining table"], ["dining table"]),
        ("two remote controls", ["remote"], ["remote"]),
        ("hot-dog hot, dog hot dogs", ["dog", "hot dog"], ["dog", "hot dog"]),
    ],
)
def test_objects_of_a_text(text, by_chair, by_rlhfv):
    assert (nodes(CHAIR, text), nodes(RLHFV, text)) == (by_chair, by_rlhfv)


def test_two_word_names_are_put_together_from_left_to_right_without_looking_back():
    assert CHAIR.merged(["baby", "bear", "bear"]) == ["bear", "bear"]
    assert CHAIR.merged(["wine", "wine", "glas"]) == ["wine", "wine glass"]
    assert RLHFV.merged(["tennis", "racket", "remote", "control"]) == ["tennis racket", "remote control"]
    assert CHAIR.merged(["remote", "control"]) == ["remote", "control"]
    assert len(CHAIR.pairs) == 27 + 24 + 2 + 3 - 1  # 29 listed, two of them twice; bow tie is in the list already


def test_extracted_names_count_once_each():
    names = ["two wooden chairs", "chair", "dining table", "a man", "woman", "office chair", "tennis rackets", "", "%"]
    assert RLHFV.phrases(names) == [
        ("chair", "chair"), ("dining table", "dining table"), ("man", "person"), ("woman", "person"),
        ("tennis racket", "tennis racket"),
    ]  # fmt: skip


def test_our_own_table_has_the_80_categories_first_in_their_lines():
    lines = default_table("rlhfv").lines
    assert len(lines) == len({line[0] for line in lines}) == 80
    assert all(entry == entry.strip().lower() for line in lines for entry in line)
    for flavour in ("chair", "rlhfv"):
        table = default_table(flavour)
        assert all(table.category[line[0]] == line[0] for line in lines), "no entry of one line names another line"


def official_mentions(text, lines, singular, pairs, stripped, words):
    """The official steps once more, straight from their description, on tabulated singulars."""
    lookup = {e.strip() if stripped else e: line[0] for line in lines for e in line}
    tokens, merged = [singular.get(w, w) for w in words], []
    while tokens:
        if " ".join(tokens[:2]) in pairs:
            merged.append(pairs[" ".join(tokens[:2])])
            tokens = tokens[2:]
        else:
            merged.append(tokens.pop(0))
    if "toilet" in merged and "seat" in merged:
        merged = [w for w in merged if w != "seat"]
    return [(w, lookup[w]) for w in merged if w in lookup]


@pytest.mark.parametrize("flavour", ["chair", "rlhfv"])
def test_real_captions_mention_what_the_official_steps_find(flavour):
    theirs = nltk_words()
    place = {"chair": ("chair", "synonyms.txt"), "rlhfv": ("object_halbench", "synonyms_refine.txt")}[flavour]
    text = (shared_data(place[0]) / place[1]).read_text()
    table, singular = parse_table(text, flavour), read_singulars(flavour)
    lines = [line.strip().split(", ") for line in text.splitlines()]
    rows = [json.loads(line) for line in (shared_data("instruct") / "preference_style_sample.jsonl").open()]
    captions = [row[key] for row in rows for key in ("chosen", "rejected")]
    assert len(captions) == 160
    for caption in captions:
        words = [word for part in _as_split(caption) for word in theirs(part)]
        expected = official_mentions(caption, lines, singular, table.pairs, flavour == "rlhfv", words)
        assert table.mentions(caption) == expected, caption


def test_published_example_of_the_standalone_scorer():
    published = json.loads((shared_data("chair") / "example_outputs.json").read_text())["sentences"]
    table = parse_table((shared_data("chair") / "synonyms.txt").read_text(), "chair")
    for sentence in published:
        assert table.words(sentence["caption"]) == sentence["words"]
        assert nodes(table, sentence["caption"]) == sentence["mscoco_generated_words"]
