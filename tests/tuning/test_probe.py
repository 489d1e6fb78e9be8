"""The probe: probabilities are the model's own, steps are read as written, and what was asked is not asked again."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning.probe import Plan, Probe, Word, parse_steps, run, size
from mmalign_eval.tuning.probe_files import drawn, table, write

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput, MmevalError
from mmalign_eval.images import ImagePool
from mmalign_eval.miniature import checkpoint, data_dir
from mmalign_eval.models.hf import open_model
from mmalign_eval.models.scripted import open_model as open_scripted
from mmalign_eval.requests import Choose, Generate, ImageRef, Prompt, greedy
from mmalign_eval.store import Store

from .conftest import LlavaData

torch.set_num_threads(1)
WORDS = ("dog", "person", "watermelon")  # the last is several tokens


@pytest.mark.parametrize(
    ("text", "of", "expected"),
    [
        ("", 1000, (*range(0, 1000, 100), 999)),
        ("", 2001, tuple(range(0, 2001, 100))),
        ("0,250,...,999", 1000, (0, 250, 500, 750, 999)),
        ("5", 1000, (5,)),
        ("0, 10,…,30,900", 1000, (0, 10, 20, 30, 900)),
        ("0,2000", 2001, (0, 2000)),
    ],
)
def test_steps(text: str, of: int, expected: tuple[int, ...]) -> None:
    assert parse_steps(text, of) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,...,900", "stands between"),
        ("0,100,...", "stands between"),
        ("0,x", "'x' is no step"),
        ("-5", "'-5' is no step"),
        ("100,0", "expected rising steps"),
        ("0,0", "expected rising steps"),
        ("0,1000", "steps 0 to 999"),
    ],
)
def test_bad_steps_are_named(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_steps(text, 1000)


@pytest.fixture
def images(llava_data: LlavaData) -> tuple[ImageRef, ...]:
    return tuple(ImageRef(str(path)) for path in sorted(llava_data.images.iterdir())[:2])


def plan(images: tuple[ImageRef, ...], **changes: Any) -> Plan:
    given: dict[str, Any] = {
        **{"images": images, "question": "Describe the image.", "prefix": "The image shows a", "words": WORDS},
        **{"steps": (0, 600, 999), "responses": True, "max_new_tokens": 6},
        **changes,
    }
    return Plan(**given)


def quiet(ok: int, bad: int) -> None:
    """Nobody listens."""


def by_hand(model: Any, spec: str, image: ImageRef, word: str) -> float:
    """Log-probability of a word's tokens, each read from logits over the whole vocabulary."""
    twin = model.weakened(spec)
    twin.load()
    request = Generate(Prompt("Describe the image.", (image,)), greedy(1))
    pool = ImagePool()
    text = model.render(request) + " The image shows a"
    inputs = model._process([text], [request], pool)
    whole = model._process([f"{text} {word}"], [request], pool)["input_ids"][0].tolist()
    pool.close()
    ids, total = inputs["input_ids"], 0.0
    tokens = whole[ids.shape[1] :]
    assert whole[: ids.shape[1]] == ids[0].tolist()
    for token in tokens:
        with torch.inference_mode(), twin._seeing([request]):
            logits = twin._model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1]
        total += float(torch.log_softmax(logits.double(), dim=-1)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return total


def test_probabilities_and_answers_are_the_models_own(
    nano_llava: Path, images: tuple[ImageRef, ...], tmp_path: Path
) -> None:
    model, store = open_model(str(nano_llava), {}), Store(tmp_path / "s.sqlite")
    asked = plan(images)
    heard: list[int] = []
    found = run(model, store, asked, lambda ok, bad: heard.append(ok))
    assert sum(heard) == size(asked) == len(store) == 3 * 2 * 2
    assert [(w.step, w.image, w.word) for w in found.words] == [
        (step, image, word) for step in asked.steps for image in (0, 1) for word in WORDS
    ]
    for word in found.words:
        wanted = by_hand(model, asked.weaken(word.step), images[word.image], word.word)
        assert word.logprob == pytest.approx(wanted, abs=2e-5)
        assert word.tokens == (1 if word.word in ("dog", "person") else word.tokens)
    assert found.words[2].tokens > 1
    changed = [abs(a.logprob - b.logprob) for a, b in zip(found.words[:6], found.words[-6:], strict=True)]
    assert min(changed) > 1e-3  # noise reaches every word
    for (step, image), text in found.responses.items():
        twin = model.weakened(asked.weaken(step))
        twin.load()
        request = Generate(Prompt("Describe the image.", (images[image],)), greedy(6))
        ((_, answer),) = twin.answer([request], ImagePool())
        assert answer.text.strip() == text


def test_what_was_asked_is_not_asked_again(nano_llava: Path, images: tuple[ImageRef, ...], tmp_path: Path) -> None:
    first = run(open_model(str(nano_llava), {}), Store(tmp_path / "s.sqlite"), plan(images, steps=(0, 600)), quiet)
    model = open_model(str(nano_llava), {})
    again = run(model, Store(tmp_path / "s.sqlite"), plan(images, steps=(0, 600)), quiet)
    assert (again.words, again.responses) == (first.words, first.responses)
    assert model._model is None  # type: ignore[attr-defined]  # no weights were needed
    run(model, Store(tmp_path / "s.sqlite"), plan(images, steps=(0, 600, 700)), quiet)
    assert model._model is not None  # type: ignore[attr-defined]


def test_the_first_word_of_an_answer(nano_llava: Path, images: tuple[ImageRef, ...], tmp_path: Path) -> None:
    model = open_model(str(nano_llava), {})
    asked = plan(images[:1], prefix="", words=("Yes", "No"), steps=(500,), responses=False)
    found = run(model, Store(tmp_path / "s.sqlite"), asked, quiet)
    twin = model.weakened(asked.weaken(500))
    twin.load()
    request = Choose(Prompt("Describe the image.", images[:1]), (" Yes", " No"))
    ((_, answer),) = twin.answer([request], ImagePool())
    assert [w.logprob for w in found.words] == pytest.approx(answer.logprobs, abs=1e-5)


def test_a_word_that_melts_into_the_prefix_is_refused(
    nano_llava: Path, images: tuple[ImageRef, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(nano_llava), {})
    monkeypatch.setattr(model, "sequences", lambda request: [[1, 2], [1, 2, 7], [1, 9, 7], [1, 2, 8, 8]])
    with pytest.raises(BadInput, match="'person' apart from 'The image shows a'"):
        run(model, Store(tmp_path / "s.sqlite"), plan(images), quiet)


def test_failures_end_the_probe_and_are_asked_again(
    nano_llava: Path, images: tuple[ImageRef, ...], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(Path(images[0].path).read_bytes()[:60])
    bad = (images[0], ImageRef(str(tmp_path / "broken.png")))
    model, store = open_model(str(nano_llava), {}), Store(tmp_path / "s.sqlite")
    with pytest.raises(MmevalError, match=r"step 0: 2 of 4 requests failed; first: .*broken\.png"):
        run(model, store, plan(bad), quiet)
    assert len(store) == 2  # the other image's answers are kept


def test_models_that_cannot_be_weakened(images: tuple[ImageRef, ...], tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("- {text: Yes}\n")
    scripted = open_scripted(str(tmp_path / "m.yaml"), {})
    with pytest.raises(BadInput, match="only hf: models"):
        run(scripted, Store(tmp_path / "s.sqlite"), plan(images), quiet)
    with pytest.raises(BadInput, match="nothing to probe"):
        run(scripted, Store(tmp_path / "s.sqlite"), plan(images, words=(), responses=False), quiet)


def made(images: tuple[ImageRef, ...]) -> Probe:
    asked = plan(images, words=("dog", "a|b"), steps=(0, 999))
    probs = {(0, "dog"): (0.8, 0.2), (0, "a|b"): (0.1, 0.3), (999, "dog"): (0.1, 0.1), (999, "a|b"): (0.5, 0.7)}
    words = [
        Word(step, image, word, 1, math.log(each[image])) for (step, word), each in probs.items() for image in (0, 1)
    ]
    return Probe(asked, words, {(step, image): f"a | *b*\nc{step}" for step in (0, 999) for image in (0, 1)})


def test_table_and_figure_show_means_over_the_images(images: tuple[ImageRef, ...]) -> None:
    probe = made(images)
    assert probe.mean(0, "dog") == pytest.approx(0.5)
    assert probe.mean(0, "dog", log=True) == pytest.approx(math.log(0.16) / 2)
    assert table(probe).rows == (("0", "50.00", "20.00"), ("999", "10.00", "60.00"))
    assert "mean of 2 images" in table(probe).notes[0]
    svg = drawn(probe, "a <model>")
    assert svg == drawn(made(images), "a <model>")
    for shown in ("a &lt;model&gt;", "dog, step 0: 0.5", "a|b, step 999: 0.6", "noise step of 1000"):
        assert shown in svg, shown


def test_files(images: tuple[ImageRef, ...], tmp_path: Path) -> None:
    probe = made(images)
    paths = write(probe, {"weights": "w"}, "toy", tmp_path / "out")
    assert [path.name for path in paths] == ["probe.json", "probabilities.csv", "probabilities.svg", "responses.md"]
    with paths[1].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    assert (rows[-1]["word"], rows[-1]["image"]) == ("a|b", images[1].path)
    assert float(rows[-1]["probability"]) == pytest.approx(0.7)
    assert float(rows[-1]["image_factor"]) == pytest.approx(0.28504, abs=1e-5)
    answers = paths[3].read_text(encoding="utf-8")
    assert r"| 999 | a \| \*b\* c999 |" in answers
    asked = json.loads(paths[0].read_text(encoding="utf-8"))
    assert (asked["model"]["name"], asked["steps"], asked["scale"]) == ("toy", [0, 999], "std")
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write(made(images), {"weights": "w"}, "toy", tmp_path / "out")] == before


def test_the_command_on_the_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scene in the picture is named first, and less surely when hardly any picture is left."""
    pictures = sorted((data_dir() / "coco" / "val2014").glob("*.jpg"))[:2]  # kitchens, both
    given = [part for path in pictures for part in ("--image", str(path))]
    words = ["--words", "kitchen,street", "--steps", "0,800,999"]
    command = ["tune", "probe", "--model", "mini", *given, *words, "--out", str(tmp_path / "out")]
    assert main([*command, "--question", "Describe this image in detail."]) == 0
    printed = capsys.readouterr().out
    assert "step  kitchen  street" in printed
    with (tmp_path / "out" / "probabilities.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    of = {
        (row["word"], row["step"]): [
            float(r["probability"]) for r in rows if (r["word"], r["step"]) == (row["word"], row["step"])
        ]
        for row in rows
    }
    assert min(of["kitchen", "0"]) > 0.9
    assert sum(of["kitchen", "999"]) < sum(of["kitchen", "0"])
    assert sum(of["street", "999"]) > sum(of["street", "0"])
    assert not (tmp_path / "out" / "responses.md").exists()


def test_the_commands_options_reach_the_plan(
    tmp_path: Path, nano_llava: Path, llava_data: LlavaData, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(llava_data.images.iterdir()))
    given = ["--model", f"hf:{nano_llava}", "-M", "batch_rows=1", "--image", image, "--out", str(tmp_path / "out")]
    asked = ["--words", "cup", "--answer-prefix", "There is a red", "--of-steps", "2001", "--steps", "0,2000"]
    how = ["--on", "pixels", "--scale", "2", "--seed", "3", "--responses", "--max-new-tokens", "4"]
    assert main(["tune", "probe", *given, *asked, *how]) == 0
    kept = (tmp_path / "out" / "probe.json").read_text(encoding="utf-8")
    assert all(part in kept for part in ("There is a red", "2001", "pixels"))
    assert (tmp_path / "out" / "responses.md").exists()
    assert 'the next word after "There is a red"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--words", "a", "--steps", "0,1000"], "steps 0 to 999"),
        (["--words", "a", "--on", "feature"], "did you mean 'features'?"),
        (["--words", "a", "--scale", "x"], "a number from 0 on, or std"),
        (["--words", "a", "-M", "weaken=features:5"], "the probe sets it"),
        ([], "nothing to probe"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    more: list[str], said: str, tmp_path: Path, llava_data: LlavaData, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(llava_data.images.iterdir()))
    command = ["tune", "probe", "--model", f"hf:{checkpoint('llava')}", "--image", image]
    assert main([*command, "--out", str(tmp_path), *more]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
