"""The image benchmarks in small: the same answers on all our sides; operations as torch counts them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmalign_eval.models import together
from mmalign_eval.models.opening import open_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from lib import seeing, seeing_ours  # noqa: E402

IMAGES, EACH, NEW = 2, 6, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("seeing")
    seeing.prepare(made, seeing.SHAPES["nano"], IMAGES, EACH)
    seeing.prepare(made, seeing.SHAPES["nano"], IMAGES, 0)
    return made


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharing hardly pays at this model's width, so that the slow path would be held against itself."""
    monkeypatch.setattr(together, "pays", lambda *costs: True)


def test_questions_answered_together_apart_and_by_a_plain_loop_have_the_same_answers(
    folder: Path, tmp_path: Path
) -> None:
    data = folder / f"data-{IMAGES}-{EACH}"
    for name in ("ours", "apart"):
        (tmp_path / name).mkdir()
    ours = seeing_ours.ours(folder, data, NEW, tmp_path / "ours")
    apart = seeing_ours.ours(folder, data, NEW, tmp_path / "apart", shared=False)
    plain = seeing_ours.plain(folder, data, NEW, rows=4)
    assert ours["texts"] == apart["texts"] == plain["texts"]
    assert len(ours["texts"]) == IMAGES * EACH
    assert len(set(ours["texts"])) > 1


def test_a_caption_is_asked_of_each_photograph(folder: Path) -> None:
    requests = seeing_ours.asked(folder / f"data-{IMAGES}-0", NEW)
    assert [request.prompt.text for request in requests] == [seeing.CAPTION] * IMAGES
    assert len({request.prompt.images for request in requests}) == IMAGES


def test_the_limit_counts_what_our_path_does_but_for_the_towers_last_layer(folder: Path, tmp_path: Path) -> None:
    data, shape = folder / f"data-{IMAGES}-{EACH}", seeing.SHAPES["nano"]
    found = seeing_ours.limit(shape, folder, data, NEW)
    with FlopCounterMode(display=False) as whole:
        seeing_ours.ours(folder, data, NEW, tmp_path)
    adapter = open_model(f"hf:{folder / 'model'}", {"device": "cpu", "dtype": "float32"})
    with FlopCounterMode(display=False) as loading:  # tries out whether options may share a row
        adapter.load()
    done = _in_matrices(whole) - _in_matrices(loading)
    width, mlp, _, _ = shape.vision
    last_layer = IMAGES * 2 * (shape.image_tokens + 1) * (4 * width * width + 2 * width * mlp)
    assert found["in_matrices"] == pytest.approx(done - last_layer, rel=0.02)
    assert found["seconds"] == pytest.approx(found["operations"] / found["rate"])


def _in_matrices(counter: FlopCounterMode) -> int:
    """What was counted outside attention."""
    counts = counter.get_flop_counts()["Global"]
    return sum(number for operation, number in counts.items() if "attention" not in str(operation))


def test_the_models_end_token_is_never_the_likeliest() -> None:
    model = seeing.build(seeing.SHAPES["nano"])
    with torch.inference_mode():
        logits = model(input_ids=torch.randint(300, 600, (4, 30))).logits
    assert not (logits.argmax(dim=-1) == seeing.EOS).any()
    assert float(logits[..., seeing.EOS].abs().max()) == 0.0
