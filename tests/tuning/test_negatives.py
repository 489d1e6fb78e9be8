"""Negatives: what is asked of whom, what becomes a pair and what is dropped, and that the noise does something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tuning import negatives
from mmalign_eval.tuning.negatives import Plan, check_plan, make_negatives, make_requests, open_for
from mmalign_eval.tuning.rows import Positive
from PIL import Image

from mmalign_eval.errors import BadInput
from mmalign_eval.evaluate import Reporter
from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.models.openai import OpenAIModel
from mmalign_eval.models.opening import open_model
from mmalign_eval.models.scripted import ScriptedModel
from mmalign_eval.requests import Generate, GenParams, Prompt, Request, Response
from mmalign_eval.store import Store

POSITIVES = [
    Positive("a-0", "a", "What is it?", "A red cat.", "0.png"),
    Positive("a-1", "a", "Is there a dog?", "No", "0.png"),
    Positive("b-0", "b", "Describe it.", "A blue bus on a road.", "1.png"),
]
SCRIPTED = "scripted:any"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(2):
        Image.new("RGB", (24, 24), (200 * number, 90, 30)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.sqlite")


Answer = Callable[[Request], Response | None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[tuple[str, dict[str, str]]]]:
    """Every model answers by a function; returns what was opened."""

    def use(answer: Answer) -> list[tuple[str, dict[str, str]]]:
        opened = []

        def open_scripted(spec: str, options: Any) -> ScriptedModel:
            opened.append((spec, dict(options)))
            return ScriptedModel(answer, version=repr(sorted(options.items())))

        monkeypatch.setattr(negatives, "open_model", open_scripted)
        return opened

    return use


def said(text: str, finish: str = "stop") -> Response:
    return Response("ok", text=text, finish=finish, new_tokens=3)


def make(images: Path, store: Store, plan: Plan, **more: Any) -> Any:
    options = {"batch_rows": "2"}
    return make_negatives(POSITIVES, images, SCRIPTED, options, plan, store, Reporter(), **more)


def test_kinds_are_asked_of_their_models_and_paired_in_order(images: Path, store: Store, scripted: Any) -> None:
    opened = scripted(lambda request: said(f" T{request.params.temperature} {len(request.prompt.images)} "))
    pairs, made = make(images, store, Plan(how=("weakened", "injected", "self", "contrast")))
    noise = {"batch_rows": "2", "weaken": "features:800:scale=std"}
    assert [options for _, options in opened] == [
        noise,
        {"batch_rows": "2"},
        {"batch_rows": "2"},
        {**noise, "contrast": "1:0.2"},
    ]
    assert [pair.id for pair in pairs[:4]] == ["a-0/mllm-hal", "a-0/llm-hal", "a-0/self", "a-0/contrast"]
    assert [pair.rejected for pair in pairs[:4]] == ["T0.2 1", "T0.8 0", "T0.5 1", "T0.2 1"]
    assert [pair.kind for pair in pairs[:4]] == ["mllm-hal", "llm-hal", "self", "contrast"]
    last = pairs[-1]
    assert (last.prompt, last.chosen, last.image, last.source) == (
        "Describe it.",
        "A blue bus on a road.",
        "1.png",
        "b",
    )
    assert {how: (of.asked, of.pairs) for how, of in made.items()} == {
        how: (3, 3) for how in ("weakened", "injected", "self", "contrast")
    }


ANSWERS = {
    "What is it?": said("A  red cat. "),  # identical but for blanks
    "Is there a dog?": said(" \n"),
    "Describe it.": said("A bus <image>"),
}


def test_answers_that_are_no_negative_are_dropped_and_counted(images: Path, store: Store, scripted: Any) -> None:
    scripted(lambda request: ANSWERS[request.prompt.text])
    pairs, made = make(images, store, Plan(how=("self",)))
    of = made["self"]
    assert pairs == []
    assert (of.asked, of.pairs, of.identical, of.empty, of.marked) == (3, 0, 1, 1, 1)


def test_failures_are_counted_and_never_a_pair(images: Path, store: Store, scripted: Any) -> None:
    answers = {
        "What is it?": Response("error", text="A dog.", error="broken"),
        "Is there a dog?": Response("refused", error="will not"),
        "Describe it.": Response("truncated", text="A boat.", finish="stop"),
    }
    scripted(lambda request: answers[request.prompt.text])
    pairs, made = make(images, store, Plan(how=("self",)))
    assert pairs == []
    assert (made["self"].errors, made["self"].cut) == (2, 1)
    assert made["self"].first_error == "a-0: broken"


def test_a_damaged_image_costs_its_own_pairs(images: Path, store: Store, scripted: Any) -> None:
    (images / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    scripted(lambda request: said("wrong"))
    pairs, made = make(images, store, Plan(how=("self", "injected")))
    assert [pair.id for pair in pairs] == ["a-0/llm-hal", "a-1/llm-hal", "b-0/self", "b-0/llm-hal"]
    assert made["self"].errors == 2
    assert "0.png cannot be decoded" in made["self"].first_error


def test_samples_differ_in_seed_and_repeats_are_dropped(images: Path, store: Store, scripted: Any) -> None:
    seeds: list[int] = []

    def answer(request: Request) -> Response:
        assert isinstance(request, Generate)
        seeds.append(request.params.seed)
        return said("same" if request.prompt.text == "What is it?" else f"seed {request.params.seed}", "length")

    scripted(answer)
    pairs, made = make(images, store, Plan(how=("self",), samples=3))
    assert len(set(seeds)) == 9
    assert [pair.id for pair in pairs][:4] == ["a-0/self", "a-1/self", "a-1/self~2", "a-1/self~3"]
    assert (made["self"].repeated, made["self"].pairs, made["self"].unfinished) == (2, 7, 7)


def test_seeds_come_from_ids_kind_and_run_alone(images: Path) -> None:
    adapter = ScriptedModel(lambda request: None)

    def seeds(positives: list[Positive], how: Any = "self", **plan: Any) -> list[int]:
        return [r.params.seed for r in make_requests(how, adapter, positives, images, Plan(how=(how,), **plan))]

    assert seeds(POSITIVES) == seeds(POSITIVES[::-1])[::-1]
    assert seeds(POSITIVES)[0] == seeds(POSITIVES, samples=2)[0]
    assert seeds(POSITIVES) != seeds(POSITIVES, seed=1)
    assert seeds(POSITIVES) != seeds(POSITIVES, how="weakened")


def test_what_an_injector_is_asked(images: Path) -> None:
    adapter = ScriptedModel(lambda request: None)
    (request, *_) = make_requests("injected", adapter, POSITIVES, images, Plan(prompt="examples"))
    assert replace(request.params, seed=0) == GenParams(1024, temperature=0.8, top_p=0.95, stop=("</s>",))
    assert request.params.seed
    assert request.prompt.images == ()
    assert request.prompt.template == "vicuna_v1"
    assert request.prompt.text.endswith("Question: What is it? Response: A red cat.. Modified response:")


@pytest.mark.parametrize(("api", "template"), [("chat", "model"), ("completions", "vicuna_v1")])
def test_a_server_that_has_a_template_keeps_it(images: Path, api: str, template: str) -> None:
    plan = Plan(how=("injected",), injector="openai:x")
    adapter = OpenAIModel("x", "http://127.0.0.1:1/v1", api=api)
    (request, *_) = make_requests("injected", adapter, POSITIVES, images, plan)
    assert request.prompt.template == template
    adapter.check(request)


def test_a_server_is_no_backbone_in_the_authors_template(images: Path) -> None:
    chat = OpenAIModel("x", "http://127.0.0.1:1/v1", api="chat")
    with pytest.raises(BadInput, match=r"--injector backbone: x: .*; or give another --injector"):
        make_requests("injected", chat, POSITIVES, images, Plan(how=("injected",)))


def test_missing_images_are_told_before_anything_is_asked(images: Path, store: Store, scripted: Any) -> None:
    opened = scripted(lambda request: said("x"))
    (images / "1.png").unlink()
    with pytest.raises(BadInput, match=r"positives: 1 of 2 images are not in .*: 1\.png"):
        make(images, store, Plan(how=("injected", "self")))
    assert opened == []
    pairs, _ = make(images, store, Plan(how=("injected",)))  # which sees no image
    assert len(pairs) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": ("weakend",)}, "--how weakend: unknown - did you mean 'weakened'"),
        ({"how": ()}, "give one or more of weakened, injected, self, contrast"),
        ({"how": ("self", "self")}, "each once"),
        ({"prompt": "papers"}, "--prompt papers: unknown - did you mean 'paper'"),
        ({"temperature": -1.0}, "--temperature -1: expected 0"),
        ({"how": ("self", "weakened"), "weaken": ""}, "--weaken: empty"),
        ({"temperature": 0.0, "samples": 2}, "greedy answers are all the same"),
    ],
)
def test_plans_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_plan(replace(Plan(), **change), "mini", {})


def test_noise_is_no_option_of_the_model() -> None:
    with pytest.raises(BadInput, match="weaken= as an option of the model: give --how weakened"):
        check_plan(Plan(), "hf:x,weaken=features:800", {})
    with pytest.raises(BadInput, match="contrast= as an option of the model: give --how contrast"):
        check_plan(Plan(), "hf:x", {"contrast": "1:0.2"})


# -- on a real adapter ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{make_llava(tmp_path_factory.mktemp('nano') / 'llava')}"


def test_weakened_answers_are_those_of_the_weakened_model(nano: str, images: Path, tmp_path: Path) -> None:
    plan = Plan(how=("weakened", "self"), weaken="features:999:scale=3", temperature=0.0, max_new_tokens=6)
    pairs, made = make_negatives(POSITIVES, images, nano, {}, plan, Store(tmp_path / "s.sqlite"), Reporter())
    by_kind = {kind: [pair.rejected for pair in pairs if pair.kind == kind] for kind in ("mllm-hal", "self")}
    assert len(by_kind["self"]) == len(by_kind["mllm-hal"]) == 3
    assert by_kind["self"] != by_kind["mllm-hal"]
    assert made["weakened"].model != made["self"].model

    from mmalign_eval.engine import Engine

    adapter = open_model(nano, {"weaken": "features:999:scale=3"})
    requests = make_requests("weakened", adapter, POSITIVES, images, plan)
    alone, _ = Engine(adapter, Store(tmp_path / "other.sqlite")).run(requests)
    assert by_kind["mllm-hal"] == [answer.text.strip() for answer in alone]


def test_errors_are_injected_by_the_language_model_alone(nano: str, images: Path, tmp_path: Path) -> None:
    plan = Plan(how=("injected",), prompt="description", max_new_tokens=8)
    adapter = open_for("injected", nano, {}, plan)
    assert not adapter.images
    assert adapter.describe()["class"] == "LlamaForCausalLM"
    rendered = adapter.render(make_requests("injected", adapter, POSITIVES, images, plan)[0])
    assert rendered.startswith("A chat between a curious user and an artificial intelligence assistant. ")
    assert rendered.endswith("Description: A red cat.. Modified description: ASSISTANT:")
    pairs, made = make_negatives(POSITIVES, images, nano, {}, plan, Store(tmp_path / "s.sqlite"), Reporter())
    assert made["injected"].errors == 0
    assert made["injected"].model["part"] == "backbone"
    assert [pair.kind for pair in pairs] == ["llm-hal"] * 3


def test_a_model_that_sees_nothing_is_refused(nano: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="takes no images: negatives of kind self need a model that sees"):
        open_for("self", f"{nano},backbone=true", {}, Plan())
    with pytest.raises(
        BadInput, match="--how weakened needs a model whose images can be weakened .*: scripted:yes: -M"
    ):
        open_for("weakened", "scripted:yes", {}, Plan())


def test_the_question_goes_out_as_in_an_evaluation(images: Path) -> None:
    (request, *_) = make_requests("weakened", ScriptedModel(lambda r: None), POSITIVES, images, Plan())
    assert request.prompt == Prompt("What is it?", images=request.prompt.images)
    assert request.prompt.images[0].path == str(images / "0.png")
    assert replace(request.params, seed=0) == GenParams(1024, temperature=0.2)
