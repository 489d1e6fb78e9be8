"""An image too large to be decoded: one clear error before anything is asked, whatever the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mmalign_eval.cli.main import main
from mmalign_eval.errors import ImageError
from mmalign_eval.images import digest, image_size, open_image
from mmalign_eval.requests import ImageRef

from .toy import isolate_registry, make_toy

Size = tuple[int, int]


@pytest.mark.parametrize("model", ["scripted:m.yaml", "mini"])
@pytest.mark.parametrize("size", [(30_000, 30_000), (10_000, 10_000)], ids=str)  # Pillow's limit lies between
def test_it_is_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str, size: Size
) -> None:
    isolate_registry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    plugin, data = make_toy(tmp_path)
    Path("m.yaml").write_text("- text: 'yes'\n")
    Image.new("1", size).save(data / "images" / "3.png")
    command = ["run", "--model", model, "--include", str(plugin), "--tasks", "toy", "--data", str(data)]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.endswith("3.png has more than 80 million pixels: too large to decode")
    assert not list(Path("results").rglob("*.json*"))


def test_a_long_one_is_an_image_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "panorama.png"
    Image.new("1", (30_000, 100)).save(path)
    ref = ImageRef(str(path))
    assert len(digest(ref)) == 64
    assert image_size(ref) == (100, 30_000)
    assert open_image(ref).size == (30_000, 100)


def test_bytes_that_are_no_image_have_a_digest_and_no_size(tmp_path: Path) -> None:
    """They fail the samples that show them, not the whole run."""
    path = tmp_path / "text.png"
    path.write_bytes(b"not an image")
    assert len(digest(ImageRef(str(path)))) == 64
    with pytest.raises(ImageError, match=r"text\.png cannot be decoded"):
        image_size(ImageRef(str(path)))
