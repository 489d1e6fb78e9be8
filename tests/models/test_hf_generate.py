"""Generation: parameters are the request's and nobody else's, stop strings, beams, templates, images, faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign_eval.errors import BadInput, OutOfMemory, Refused
from mmalign_eval.images import ImagePool
from mmalign_eval.models.generation import cut
from mmalign_eval.models.hf import open_model
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, greedy

from .hf_case import ask, copy_of, load, nano, opened, pictures, same


def raw(text: str, params: GenParams) -> Generate:
    return Generate(Prompt(text, template="raw"), params)


TEXT = "Question: How many apples does Tom have?"


def test_the_checkpoints_generation_config_does_not_leak_in(tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / "model")
    leaky = {
        "do_sample": True, "temperature": 5.0, "top_p": 0.1, "top_k": 3, "repetition_penalty": 5.0, "max_length": 9,
        "min_new_tokens": 60, "num_beams": 3, "no_repeat_ngram_size": 1, "suppress_tokens": [5, 6, 7, 8],
        "bad_words_ids": [[9]], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    (path / "generation_config.json").write_text(json.dumps(leaky))
    tampered = load(path)
    requests = [raw(TEXT, greedy(30)), raw(TEXT, GenParams(30, temperature=0.8, seed=3)), raw("no", greedy(12))]
    for ours, plain in zip(ask(tampered, requests), ask(opened("llama"), requests), strict=True):
        same(ours, plain)


def test_end_tokens_come_from_generation_config_and_tokenizer(tmp_path: Path) -> None:
    plain = ask(opened("llama"), [raw(TEXT, greedy(30))])[0]
    model = opened("llama")
    with torch.inference_mode():
        ids = torch.tensor([model.encoder.prompt(TEXT)])
        third = int(model._model.generate(ids, max_new_tokens=3, do_sample=False)[0, -1])
    path = copy_of(nano("llama"), tmp_path / "model")
    config = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [2, third]}))
    ended = load(path)
    response = ask(ended, [raw(TEXT, greedy(30))])[0]
    assert (response.finish, response.new_tokens) == ("stop", 3)
    assert plain.text.startswith(response.text)
    assert (plain.finish, plain.new_tokens) == ("length", 30)
    assert ended.effective(greedy(30))["eos_token_ids"] == [2, third]
    assert ended.fingerprint() != opened("llama").fingerprint()


def test_effective_parameters() -> None:
    model = opened("llama")
    assert model.effective(greedy(5, ("\n",))) == {
        "max_new_tokens": 5, "temperature": 0.0, "num_beams": 1, "min_new_tokens": 0, "stop": ["\n"],
        "eos_token_ids": [2],
    }  # fmt: skip
    sampled = model.effective(GenParams(5, temperature=0.2, top_k=50, seed=4))
    assert (sampled["temperature"], sampled["top_k"], sampled["top_p"], sampled["seed"]) == (0.2, 50, 1.0, 4)


def test_stop_strings_cut_and_end_early() -> None:
    model = opened("llama")
    whole = ask(model, [raw(TEXT, greedy(40))])[0]
    stop = whole.text[8:11]
    cut_at = ask(model, [raw(TEXT, greedy(40, ("never seen", stop)))])[0]
    assert cut_at.text == whole.text[: whole.text.index(stop)]
    assert cut_at.finish == "stop"
    assert cut_at.new_tokens < whole.new_tokens
    steps = []
    hook = model._model.register_forward_pre_hook(lambda *_: steps.append(1))
    both = ask(model, [raw(TEXT, greedy(40, (stop,))), raw(TEXT + " ", greedy(40, (stop,)))])
    hook.remove()
    assert len(steps) == max(response.new_tokens for response in both)  # every row had its stop string: no more steps
    same(both[0], ask(model, [raw(TEXT, greedy(40, (stop,)))])[0])


def test_cut_takes_each_stop_string_in_turn() -> None:
    assert cut("a. b, c", (",", ".")) == "a"
    assert cut("abc", ("", "x")) == "abc"
    assert cut("stop here stop", ("stop",)) == ""


def test_beams() -> None:
    model = opened("llama")
    ids = torch.tensor([model.encoder.prompt(TEXT)])
    with torch.inference_mode():
        theirs = model._model.generate(ids, max_new_tokens=12, num_beams=4, do_sample=False, length_penalty=1.0)
    expected = model.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)
    beamed = [raw(text, GenParams(12, num_beams=4)) for text in (TEXT, "Is there", "A")]
    found = ask(model, beamed)
    assert found[0].text == expected
    assert found[0].text != ask(model, [raw(TEXT, greedy(12))])[0].text
    for together, alone in zip(found, ask(model, beamed, batch=1), strict=True):
        same(together, alone)
    stop = found[0].text[3:5]
    stopped = ask(model, [raw(TEXT, GenParams(12, num_beams=4, stop=(stop,)))])[0]
    assert stop not in stopped.text
    with pytest.raises(Refused, match="sampling with beams is not supported"):
        model.check(raw(TEXT, GenParams(12, num_beams=2, temperature=1.0)))


def test_min_new_tokens_hold_back_the_end(tmp_path: Path) -> None:
    model = opened("llama")
    ids = torch.tensor([model.encoder.prompt(TEXT)])
    with torch.inference_mode():
        first = int(model._model.generate(ids, max_new_tokens=1, do_sample=False)[0, -1])
    path = copy_of(nano("llama"), tmp_path / "model")
    config = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": first}))
    ended = load(path)
    assert ask(ended, [raw(TEXT, greedy(9))])[0].new_tokens == 1
    assert ask(ended, [raw(TEXT, GenParams(9, min_new_tokens=5))])[0].new_tokens > 5


def test_different_parameters_in_one_batch() -> None:
    model = opened("llama")
    requests: list[Any] = [
        raw(TEXT, greedy(5)), raw(TEXT, greedy(9)), raw(TEXT, GenParams(7, temperature=1.0, seed=1)),
        raw(TEXT, GenParams(7, temperature=1.0, seed=2)), Choose(Prompt(TEXT, template="raw"), (" 7", " 8")),
    ]  # fmt: skip
    for together, alone in zip(ask(model, requests), ask(model, requests, batch=1), strict=True):
        same(together, alone)


def test_no_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(Refused, match=r"1024 new tokens leave no room for a prompt: llama-0 takes 1024 in all"):
        opened("llama").check(raw("x", greedy(1024)))


# -- images and templates -------------------------------------------------------------------------------------------


def seen(image: ImageRef, text: str = "Is there a dog?", template: str = "model", tokens: int = 12) -> Generate:
    return Generate(Prompt(text, (image,), template=template), greedy(tokens))


def test_images_are_seen_in_any_batch() -> None:
    model = opened("llava")
    requests: list[Any] = [seen(p) for p in pictures()] + [seen(p, "Describe the image briefly.") for p in pictures()]
    requests.append(Generate(Prompt("Is there a dog?"), greedy(12)))
    alone = ask(model, requests, batch=1)
    for found in (ask(model, requests), ask(model, requests[::-1])[::-1]):
        for a, b in zip(found, alone, strict=True):
            same(a, b)
    assert len({response.text for response in alone}) > 3


def test_generation_with_an_image_equals_transformers_own_steps() -> None:
    from PIL import Image

    model = opened("llava")
    image = Image.open(pictures()[0].path).convert("RGB")
    inputs = model.processor(images=image, text="USER: <image>\nIs there a dog? ASSISTANT:", return_tensors="pt")
    with torch.inference_mode():
        output = model._model.generate(**inputs, max_new_tokens=12, do_sample=False)
    text = model.processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert ask(model, [seen(pictures()[0])])[0].text == text


def test_planned_tokens_are_the_real_ones() -> None:
    model = opened("llava")
    request = seen(pictures()[0])
    plan = model.sequences(request)[0]
    assert ask(model, [request])[0].prompt_tokens == len(plan)
    images = [token for token in plan if token < 0]
    assert len(images) == 4
    assert images != [token for token in model.sequences(seen(pictures()[1]))[0] if token < 0]
    assert images == [token for token in model.sequences(seen(pictures()[0], "Other"))[0] if token < 0]
    assert model.length(request) == len(plan) + 12


def test_rendered_prompts() -> None:
    image, two = pictures()[:1], pictures()[:2]
    whole, text = opened("llava"), opened("llama")
    assert whole.render(Generate(Prompt("Q", image), greedy(1))) == "USER: <image>\nQ ASSISTANT:"
    demos = Prompt("Q", image, "S", (("q", "a"),))
    assert whole.render(Generate(demos, greedy(1))) == "S USER: q ASSISTANT: a</s>USER: <image>\nQ ASSISTANT:"
    assert whole.render(Generate(Prompt("Q", two, template="raw"), greedy(1))) == "<image>\n<image>\nQ"
    assert text.render(Generate(Prompt("Q"), greedy(1))) == "Q"  # no chat template: the raw text
    assert text.render(Choose(Prompt("", template="raw"), ("a text",), rolling=True)) == "a text"
    v0 = open_model(str(nano("llava")), {"template": "vicuna_v0"})
    assert v0.render(Generate(Prompt("Q", image), greedy(1))).endswith("###Human: <image>\nQ###Assistant:")
    assert v0.render(Generate(Prompt("Q", image, template="plain"), greedy(1))) == "<image>\nQ\n"
    assert v0.fingerprint() != whole.fingerprint()


def test_a_backbones_chat_template_gets_the_text() -> None:
    backbone = opened("llava").for_text()
    assert backbone.render(Generate(Prompt("Is there a dog?"), greedy(1))) == "USER: Is there a dog? ASSISTANT:"


def test_no_chat_template_is_a_clear_line(tmp_path: Path) -> None:
    path = copy_of(nano("llava"), tmp_path / "bare")
    (path / "chat_template.jinja").unlink()
    bare = open_model(str(path), {})
    with pytest.raises(BadInput, match=r"bare has no chat template: .* -M template=NAME \(raw, .*vicuna_v1"):
        bare.render(seen(pictures()[0]))
    named = load(path, template="vicuna_v1")
    assert ask(named, [seen(pictures()[0])])[0].status == "ok"


def test_a_damaged_image_fails_alone(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    requests: list[Any] = [
        seen(pictures()[0]), seen(ImageRef(str(broken))), Choose(Prompt("Q", (ImageRef(str(broken)),)), (" a", " b")),
    ]  # fmt: skip
    good, bad, worse = ask(opened("llava"), requests)
    assert good.status == "ok"
    assert bad.status == worse.status == "error"
    assert "cannot be decoded" in bad.error
    assert opened("llava").length(requests[1]) > 0  # planning does not stumble over it


def test_a_text_with_the_image_token_is_refused_alone() -> None:
    odd, good = ask(opened("llava"), [seen(pictures()[0], "what is <image>?"), seen(pictures()[0])])
    assert odd.status == "refused"
    assert "contains the model's image token '<image>'" in odd.error
    assert good.status == "ok"


def test_an_image_is_never_cut() -> None:
    long = "Tom has 3 apples and a red cup. " * 160
    response, choice = ask(
        opened("llava"), [seen(pictures()[0], long), Choose(Prompt(long, pictures()[:1]), (" Yes", " No"))]
    )
    assert response.status == choice.status == "error"
    assert "an image is never cut" in response.error


def test_images_for_a_text_model_are_refused() -> None:
    with pytest.raises(Refused, match="takes no images"):
        opened("llama").check(seen(pictures()[0]))
    with pytest.raises(Refused, match="leave backbone=true out"):
        opened("llava").for_text().check(seen(pictures()[0]))


# -- faults ---------------------------------------------------------------------------------------------------------


def poison(model: Any, token: int) -> Any:
    """Makes the model give NaN after a token has been read."""
    weight = model._model.get_input_embeddings().weight
    with torch.no_grad():
        weight[token] = torch.nan
    return model


def test_nan_is_an_error_of_that_request_only() -> None:
    model = load(nano("llama"))
    plain: list[Any] = [raw(TEXT, greedy(8)), Choose(Prompt(TEXT, template="raw"), (" 7", " 8"))]
    before = ask(model, plain)
    [token] = model.tokenizer.encode("é"[0], add_special_tokens=False)[-1:]
    poison(model, token)
    requests: list[Any] = [
        plain[0], raw("é", greedy(8)), raw("é", GenParams(8, temperature=1.0)), raw("é", GenParams(8, num_beams=2)),
        plain[1], Choose(Prompt("é", template="raw"), (" 7", " 8")),
    ]  # fmt: skip
    found = ask(model, requests)
    same(found[0], before[0])
    same(found[4], before[1])
    for bad in (found[1], found[2], found[3], found[5]):
        assert (bad.status, bad.error) == ("error", "the model gave NaN or infinite scores")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_told_to_the_engine(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(nano("llama"))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(model._model.model, "forward", fail)
    for request in (raw(TEXT, greedy(3)), Choose(Prompt(TEXT, template="raw"), (" 7", " 8"))):
        with pytest.raises(OutOfMemory):
            list(model.answer([request], ImagePool()))


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(nano("llama"))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(model._model.model, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        list(model.answer([raw(TEXT, greedy(3))], ImagePool()))
