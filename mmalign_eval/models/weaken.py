"""Weakened images: diffusion noise on what a model sees, `-M weaken=SPEC` of `hf:` models.

BPO (section 3.1, Figs. 4 and 5) adds the noise to CLIP's features before the projector; the script it released adds it
to the pixels after preprocessing. Both are here, with the schedule of both (`data.transforms.diffusion_scales`):

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) s eps,    eps ~ N(0, 1)

eps is drawn from the image's content and the seed alone: neither batch nor order nor the step changes it, so that
answers over steps differ by the strength of one noise and not by its shape.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..data.transforms import STEPS, diffusion_scales
from ..errors import BadInput, did_you_mean
from ..images import digest
from ..requests import ImageRef

if TYPE_CHECKING:
    import torch

TARGETS = ("features", "pixels")
KEYS = ("steps", "scale", "seed")
OWN_STD = "std"
PROJECTOR = "multi_modal_projector"  # what transformers' LLaVA-like models call it
_FORM = "expected features:STEP or pixels:STEP, with :steps=1000, :scale=1 (or std) and :seed=0 where they differ"


@dataclass(frozen=True)
class Weaken:
    """How images are weakened.

    Attributes:
        target: `features` (of the vision tower, before the projector) or `pixels` (after preprocessing).
        step: Of the diffusion, from 0 (hardly any noise).
        steps: Of the whole schedule.
        scale: Of the noise; None: the standard deviation of each image's own features (or pixels). CLIP's pixels have
            about 1 by their normalisation; towers differ in their features'.
        seed: Of the noise, beside the image.
    """

    target: Literal["features", "pixels"]
    step: int
    steps: int = STEPS
    scale: float | None = 1.0
    seed: int = 0

    def __str__(self) -> str:
        scale = OWN_STD if self.scale is None else f"{self.scale:.17g}"
        return f"{self.target}:{self.step}:steps={self.steps}:scale={scale}:seed={self.seed}"

    @property
    def name(self) -> str:
        """For models' names: target and step, and what is not as usual."""
        usual = Weaken(self.target, self.step)
        parts = [self.target, str(self.step)]
        parts += [] if self.steps == usual.steps else [f"of-{self.steps}"]
        parts += [] if self.scale == usual.scale else [OWN_STD if self.scale is None else f"x{self.scale:g}"]
        parts += [] if self.seed == usual.seed else [f"seed-{self.seed}"]
        return "-".join(parts)


@dataclass(frozen=True)
class Contrast:
    """Contrastive decoding against the weakened image (VCD, Leng et al., 2023; `models/contrast.py`).

    Attributes:
        alpha: Weight of the difference.
        beta: Tokens below this share of the likeliest one's probability, by the clear image, are excluded.
    """

    alpha: float
    beta: float

    def __str__(self) -> str:
        return f"{self.alpha:.17g}:{self.beta:.17g}"


def parse_weaken(text: str) -> Weaken | None:
    """Reads `-M weaken=`; empty: None.

    Raises:
        BadInput: Not of that form, or a step that the schedule has not.
    """
    if not text:
        return None
    target, *rest = text.split(":")
    prefix = f"-M weaken={text}"
    if target not in TARGETS:
        raise BadInput(f"{prefix}: unknown target {target!r}{did_you_mean(target, TARGETS)}; {_FORM}")
    if not rest or not rest[0].isdecimal():
        raise BadInput(f"{prefix}: no step; {_FORM}")
    step, *options = rest
    found = {"steps": str(STEPS), "scale": "1", "seed": "0"}
    for option in options:
        key, equals, value = option.partition("=")
        if key not in KEYS or not equals:
            raise BadInput(f"{prefix}: {option!r} is no option{did_you_mean(key, KEYS)}; {_FORM}")
        found[key] = value
    for key in ("steps", "seed"):
        if not found[key].isdecimal():
            raise BadInput(f"{prefix}: {key}={found[key]}: expected a whole number")
    if int(found["steps"]) < 2:
        raise BadInput(f"{prefix}: steps={found['steps']}: a schedule has 2 steps or more")
    scale = None if found["scale"] == OWN_STD else _number(prefix, "scale", found["scale"])
    parsed = Weaken("features" if target == "features" else "pixels", int(step), int(found["steps"]), scale,
                    int(found["seed"]))  # fmt: skip
    try:
        diffusion_scales(parsed.step, parsed.steps)
    except BadInput as error:
        raise BadInput(f"{prefix}: {error}") from error
    return parsed


def parse_contrast(text: str) -> Contrast | None:
    """Reads `-M contrast=ALPHA:BETA`; empty: None.

    Raises:
        BadInput: Not two numbers, alpha below 0, or beta not in (0, 1].
    """
    if not text:
        return None
    prefix = f"-M contrast={text}"
    alpha, colon, beta = text.partition(":")
    if not colon:
        raise BadInput(f"{prefix}: expected ALPHA:BETA, such as 1:0.2")
    parsed = Contrast(_number(prefix, "alpha", alpha), _number(prefix, "beta", beta))
    if not 0 < parsed.beta <= 1:
        raise BadInput(f"{prefix}: beta is a share of the likeliest token's probability: above 0, at most 1")
    return parsed


def _number(prefix: str, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        kinds = "a number from 0 on, or std" if key == "scale" else "a number from 0 on"
        raise BadInput(f"{prefix}: {key} {text!r}: expected {kinds}")
    return value


@lru_cache(maxsize=64)
def _noise(key: bytes, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))
    made = numbers.standard_normal(shape, dtype=np.float32)
    made.flags.writeable = False
    return made


def noise_of(ref: ImageRef, spec: Weaken, shape: Sequence[int]) -> np.ndarray:
    """Noise of one image, float32: the same at every step, drawn from the image's bytes and transforms and the seed.

    Raises:
        ImageError: The image is missing.
    """
    key = "|".join((str(spec.seed), spec.target, digest(ref), *ref.transforms))
    return _noise(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), tuple(shape))


def weakened(values: torch.Tensor, refs: Sequence[ImageRef], spec: Weaken) -> torch.Tensor:
    """Values with noise, computed in float32 and returned in their own type.

    Args:
        values: `[images, ...]`: features or pixels.
        refs: Their images, in order.
        spec: Step, schedule and scale.
    """
    import torch

    kept, added = diffusion_scales(spec.step, spec.steps)
    clear = values.float()
    noise = torch.from_numpy(np.stack([noise_of(ref, spec, clear.shape[1:]) for ref in refs])).to(clear.device)
    if spec.scale is None:
        spread = clear.flatten(1).std(dim=1).reshape(-1, *[1] * (clear.dim() - 1))
        return (kept * clear + added * spread * noise).to(values.dtype)
    return (kept * clear + added * spec.scale * noise).to(values.dtype)


def projector_of(model: Any) -> Any | None:
    """The module between vision tower and language model, None where there is none of the known name."""
    return next((m for name, m in model.named_modules() if name.rpartition(".")[2] == PROJECTOR), None)


@contextlib.contextmanager
def features_weakened(model: Any, refs: Sequence[ImageRef], spec: Weaken) -> Iterator[None]:
    """While it lasts, the model's projector gets the features of these images with noise.

    Args:
        model: A LLaVA-like model.
        refs: Images of all rows, in the order of the pixel values.
        spec: How.

    Raises (in the forward pass):
        BadInput: The model cuts images into several parts, or mixes them, so that a part's image is not known.
    """

    def put_noise(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (weakened(inputs[0], _each_part(model, inputs[0], refs), spec), *inputs[1:])

    projector = projector_of(model)
    assert projector is not None, "a model without one is refused when it is opened"
    hook = projector.register_forward_pre_hook(put_noise)
    try:
        yield
    finally:
        hook.remove()


def pixels_weakened(model: Any, inputs: dict[str, Any], refs: Sequence[ImageRef], spec: Weaken) -> dict[str, Any]:
    """A model's inputs with noise on their pixel values.

    Raises:
        BadInput: As `features_weakened`.
    """
    values = inputs["pixel_values"]
    return {**inputs, "pixel_values": weakened(values, _each_part(model, values, refs), spec)}


def _each_part(model: Any, values: torch.Tensor, refs: Sequence[ImageRef]) -> Sequence[ImageRef]:
    if len(values) != len(refs):
        makes = f"{type(model).__name__} makes {len(values)} parts of {len(refs)} images"
        raise BadInput(f"-M weaken=: {makes}: only whole images are weakened")
    return refs
