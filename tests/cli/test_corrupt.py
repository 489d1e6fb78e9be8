"""`mmeval corrupt` through the real command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign_eval.cli.main import main
from mmalign_eval.data.corruptions import KINDS
from tests.data.test_corruptions import GOLDEN, ramps


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(ramps()).save(tmp_path / "ramps.png")
    return tmp_path / "ramps.png"


def run(image: Path, out: Path, kind: str, severity: object, *more: str) -> int:
    return main(["corrupt", str(image), "--kind", kind, "--severity", str(severity), "--out", str(out), *more])


@pytest.mark.parametrize(("kind", "severity", "pixel", "total"), GOLDEN)
def test_the_package_s_pictures(
    tmp_path: Path, image: Path, kind: str, severity: int, pixel: list[int], total: int
) -> None:
    assert run(image, tmp_path / "out.png", kind, severity) == 0
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)
    assert found[5, 7].tolist() == pixel
    assert int(found.sum(dtype=np.int64)) == total


def test_the_seed_is_numpy_s(tmp_path: Path, image: Path) -> None:
    for name, more in (("a", ()), ("b", ("--seed", "0")), ("c", ("--seed", "7")), ("d", ("--seed", str(2**32 - 1)))):
        assert run(image, tmp_path / f"{name}.png", "gaussian_noise", 3, *more) == 0
    a, b, c, d = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abcd")
    np.random.seed(7)
    # the package's formula: Hendrycks and Dietterich (2019)
    noisy = np.clip(ramps() / 255.0 + np.random.normal(size=(32, 32, 3), scale=0.18), 0, 1) * 255
    assert (a == b).all()
    assert (c == noisy.astype(np.uint8)).all()
    assert not (d == c).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("glass_blur", "zoom_blur")])
def test_every_kind_writes_a_picture(tmp_path: Path, image: Path, kind: str) -> None:
    assert run(image, tmp_path / "out.png", kind, 5) == 0
    assert not (np.asarray(Image.open(tmp_path / "out.png")) == ramps()).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "gausian_noise", "--severity", "1", "--out", "o.png"], "did you mean 'gaussian_noise'"),
        (["--kind", "contrast", "--severity", "6", "--out", "o.png"], "severity 6: expected 1 to 5"),
        (["--kind", "contrast", "--severity", "1", "--out", "o.jpg"], "must end in .png"),
        (["--kind", "contrast", "--severity", "1", "--seed", "-1", "--out", "o.png"], "--seed -1"),
        (["--kind", "contrast", "--severity", "1", "--out", "none/o.png"], "cannot write there"),
    ],
)
def test_what_is_refused(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(image.parent)
    assert main(["corrupt", image.name, *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in image.parent.iterdir()) == ["ramps.png"]


def test_what_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.png", tmp_path / "o.png", "contrast", 1) == 2
    assert "no such image file" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    assert run(tmp_path / "text.png", tmp_path / "o.png", "contrast", 1) != 0
    assert "cannot be decoded" in capsys.readouterr().err
    Image.new("RGB", (31, 40)).save(tmp_path / "small.png")
    assert run(tmp_path / "small.png", tmp_path / "o.png", "contrast", 1) != 0
    assert "at least 32 pixels" in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()


def test_it_needs_no_model(tmp_path: Path, image: Path) -> None:
    out = str(tmp_path / "o.png")
    code = (
        "import json, sys; from mmalign_eval.cli.main import main; "
        f"main(['corrupt', {str(image)!r}, '--kind', 'contrast', '--severity', '1', '--out', {out!r}]);"
        "print(json.dumps([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
