"""Weakened images: the noise is the formula's, each image has its own, and nothing else changes an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign_eval.data.transforms import diffusion_scales
from mmalign_eval.errors import BadInput
from mmalign_eval.models.hf import open_model
from mmalign_eval.models.hf_options import parse
from mmalign_eval.models.scripted import open_model as open_scripted
from mmalign_eval.models.weaken import Weaken, noise_of, parse_weaken, projector_of, weakened
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, Request, Response, greedy
from mmalign_eval.runs import weights_of

from .hf_case import ask, load, nano, near, opened, pictures, same

A, B, C = pictures()
OPTIONS = (" Yes", " No", "", " a red cup")
GOLDEN = (-0.3967337, -2.840363, -0.88305914)  # would stored answers still be these?
SPECS = ("features:800:scale=std", "pixels:800")


def twin(spec: str) -> Any:
    """The shared model seeing weakened images."""
    found = opened("llava").weakened(spec)
    found.load()
    return found


def differ(a: Response, b: Response) -> bool:
    return not all(near(x, y) for x, y in zip(a.logprobs, b.logprobs, strict=True))


@pytest.mark.parametrize(
    ("step", "kept", "added"), [(500, 0.97849, 0.20629), (999, 0.7469, 0.6649), (2000, 0.08115, 0.99670)]
)
def test_the_schedule_of_the_analysis_script(step: int, kept: float, added: float) -> None:
    assert diffusion_scales(step, 2001) == pytest.approx((kept, added), abs=2e-4 if step == 999 else 1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("features:800", Weaken("features", 800)),
        ("pixels:0:seed=7", Weaken("pixels", 0, seed=7)),
        ("features:2000:steps=2001:scale=std:seed=3", Weaken("features", 2000, 2001, None, 3)),
        ("features:999:scale=2.4", Weaken("features", 999, scale=2.4)),
    ],
)
def test_specs(text: str, expected: Weaken) -> None:
    assert parse_weaken(text) == expected
    assert parse_weaken(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feature:800", "unknown target 'feature' - did you mean 'features'?"),
        ("features", "no step"),
        ("features:-1", "no step"),
        ("features:1000", "expected 0 (hardly any) to 999"),
        ("features:5:steps=1", "2 steps or more"),
        ("features:5:stepz=9", "did you mean 'steps'?"),
        ("features:5:scale=-1", "a number from 0 on, or std"),
        ("features:5:scale=nan", "a number from 0 on, or std"),
        ("features:5:seed=x", "expected a whole number"),
    ],
)
def test_bad_specs_are_named(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse({"weaken": text}, local=True)
    assert str(caught.value).startswith(f"-M weaken={text}: ")
    assert said in str(caught.value)


def test_the_noise_of_an_image_never_changes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"not even an image")
    ref, spec = ImageRef(str(tmp_path / "a")), Weaken("features", 800)
    drawn = noise_of(ref, spec, (2, 3))
    assert drawn.ravel()[:3] == pytest.approx(GOLDEN, abs=1e-6)
    for other in (replace(spec, step=3), replace(spec, steps=2001), replace(spec, scale=None)):
        assert np.array_equal(noise_of(ref, other, (2, 3)), drawn)
    for other in (replace(spec, seed=1), replace(spec, target="pixels")):
        assert not np.array_equal(noise_of(ref, other, (2, 3)), drawn)
    assert not np.array_equal(noise_of(replace(ref, transforms=("blank",)), spec, (2, 3)), drawn)
    assert not np.array_equal(noise_of(A, spec, (2, 3)), drawn)
    many = noise_of(ref, spec, (400, 500))
    assert (many.mean(), many.std()) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize("scale", [None, 1.0, 2.5])
def test_the_formula(scale: float | None) -> None:
    spec = Weaken("features", 700, scale=scale)
    clear = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 4.0])[:, None, None]
    made = weakened(clear, (A, B), spec)
    for image, ref, found in zip(clear, (A, B), made, strict=True):
        width = float(image.std()) if scale is None else scale
        wanted = 0.59268 * image + 0.80544 * width * torch.from_numpy(noise_of(ref, spec, (5, 8)).copy())
        assert torch.allclose(found, wanted, atol=1e-4)
    half = weakened(clear.half() * 300, (A, B), replace(spec, scale=None))
    assert half.dtype == torch.float16
    assert bool(half.isfinite().all())


@pytest.mark.parametrize("spec", SPECS)
def test_noise_is_put_where_it_says(spec: str) -> None:
    """What the projector gets is the clear features with noise on them, or the features of noisy pixels."""
    model, got = twin(spec), []
    hook = projector_of(model._model).register_forward_hook(lambda module, inputs, output: got.append(inputs[0]))
    try:
        request = [Choose(Prompt("Is there a dog?", (A,)), OPTIONS)]
        opened("llava")._path.forget()  # it may have looked at this image last
        ask(opened("llava"), request)
        ask(model, request)
    finally:
        hook.remove()
    clear, noisy = got
    if spec.startswith("features"):
        assert torch.allclose(noisy, weakened(clear, (A,), parse_weaken(spec)))  # type: ignore[arg-type]
    else:
        pixels = opened("llava")._process([model.render(request[0])], request, _Pool())["pixel_values"]
        vision = model._model.model.vision_tower(
            weakened(pixels, (A,), parse_weaken(spec)), output_hidden_states=True  # type: ignore[arg-type]
        )  # fmt: skip
        assert torch.allclose(noisy, vision.hidden_states[-2][:, 1:], atol=1e-5)
    assert not torch.allclose(noisy, clear, atol=0.1)


class _Pool:
    def get(self, ref: ImageRef) -> Any:
        from mmalign_eval.images import open_image

        return open_image(ref)


REQUESTS: list[Request] = [
    Choose(Prompt("Is there a dog?", (A,)), OPTIONS),
    Choose(Prompt("Is there a dog in it? ", (B,)), (" Yes", " No")),
    Choose(Prompt("Q: ", (C, A), template="raw"), ("Yes", "No")),
    Choose(Prompt("No image here", template="raw"), ("Yes", "No")),
    Generate(Prompt("Describe the image.", (A,)), greedy(8)),
    Generate(Prompt("What?", (B,)), greedy(8)),
    Generate(Prompt("Both", (B, C)), greedy(8)),
    Generate(Prompt("Beams", (B,)), GenParams(max_new_tokens=6, num_beams=2)),
    Generate(Prompt("More beams, please", (C,)), GenParams(max_new_tokens=6, num_beams=2)),
    Generate(Prompt("Sampled", (C,)), GenParams(max_new_tokens=8, temperature=1.0, seed=5)),
]


@pytest.mark.parametrize("spec", SPECS)
def test_batch_and_order_change_nothing(spec: str) -> None:
    model = twin(spec)
    together = ask(model, REQUESTS)
    for one, alone in zip(together, ask(model, REQUESTS, batch=1), strict=True):
        same(one, alone)
    for one, other in zip(together, ask(model, REQUESTS[::-1])[::-1], strict=True):
        same(one, other)
    clear = ask(opened("llava"), REQUESTS)
    changed = [differ(a, b) if a.logprobs else a.text != b.text for a, b in zip(together, clear, strict=True)]
    assert changed[:4] == [True, True, True, False]
    assert any(changed[4:])


@pytest.mark.parametrize("spec", SPECS)
def test_packed_options_equal_their_slow_twin(spec: str) -> None:
    fast, slow = twin(spec), twin(spec)
    slow._alone = "asked for by a test"
    for one, other in zip(ask(fast, REQUESTS[:4]), ask(slow, REQUESTS[:4]), strict=True):
        same(one, other)


def test_a_twin_is_the_model_opened_with_the_option_and_shares_its_weights() -> None:
    model, spec = opened("llava"), SPECS[0]
    before = ask(model, REQUESTS)
    shared, own = twin(spec), load(nano("llava"), weaken=spec)
    assert shared._model is model._model
    assert own._model is not model._model
    assert shared.identity() == own.identity()
    assert (shared.name, model.name) == (own.name, own.name.split("+")[0]) == ("llava-0+features-800-std", "llava-0")
    for one, other in zip(ask(shared, REQUESTS), ask(own, REQUESTS), strict=True):
        same(one, other)
    again = shared.weakened("")
    assert (again.identity(), again.name) == (model.identity(), model.name)
    shared.close()
    for one, other in zip(ask(model, REQUESTS), before, strict=True):  # no noise is left behind
        same(one, other)
    shared.load()
    same(ask(shared, REQUESTS[:1])[0], ask(own, REQUESTS[:1])[0])


def test_a_twin_brings_the_weights_where_nobody_has_yet() -> None:
    lender = open_model(str(nano("llava")), {})
    first, second = lender.weakened("features:10"), lender.weakened("features:900")
    first.load()  # type: ignore[no-untyped-call]
    held = lender._model  # type: ignore[attr-defined]
    second.load()
    lender.load()
    assert held is lender._model is second._model  # type: ignore[attr-defined]


def test_identity_and_what_is_shown() -> None:
    plain = open_model(str(nano("llava")), {})
    assert {"weaken", "contrast"} & set(plain.identity()) == set()  # answers stored before stay valid
    specs = ["features:800", "features:801", "pixels:800", *(f"features:800:{x}" for x in ("steps=2001", "scale=std"))]
    prints = {plain.weakened(spec).fingerprint() for spec in [*specs, "features:800:seed=1"]}
    assert len(prints | {plain.fingerprint()}) == len(specs) + 2
    weak = plain.weakened("features:800")
    assert weak.describe()["weaken"] == "features:800:steps=1000:scale=1:seed=0"
    assert weak.for_text().identity() == plain.for_text().identity()
    assert weights_of(plain.identity()) is not None
    assert weights_of(weak.identity()) is None  # else it would be taken for a tuned model's base


def test_models_without_images_or_projector_are_refused(tmp_path: Path) -> None:
    for options in ({"weaken": SPECS[0]}, {"weaken": SPECS[0], "backbone": "true"}):
        with pytest.raises(BadInput, match="sees no image|is a language model already"):
            open_model(str(nano("llava" if "backbone" in options else "llama")), options)
    (tmp_path / "m.yaml").write_text("- {text: Yes}\n")
    for model in (open_scripted(str(tmp_path / "m.yaml"), {}), open_model(str(nano("llama")), {})):
        with pytest.raises(BadInput, match="only hf: models that see images"):
            model.weakened("features:800")


def test_images_that_are_cut_into_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin(SPECS[0])
    tower = model._model.model.vision_tower
    forward = tower.forward
    monkeypatch.setattr(tower, "forward", lambda pixel_values, **more: forward(pixel_values[:1], **more))
    with pytest.raises(BadInput, match="makes 1 parts of 2 images"):
        ask(model, REQUESTS[2:3])
