"""`mmeval corrupt`: one image with one corruption, as a run shows it to the model; lossless, for others to compare."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_OK, BadInput
from ..files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 2**32 - 1  # numpy's seeds


def corrupt(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file: JPEG, PNG ...")],
    out: Annotated[str, typer.Option(help="FILE.png to write")],
    kind: Annotated[str, typer.Option(help="One of the 19 kinds of imagecorruptions, like gaussian_noise")],
    severity: Annotated[int, typer.Option(help="1 to 5")],
    seed: Annotated[int, typer.Option(help="As given to numpy.random.seed before a call of the package")] = 0,
) -> int:
    """Write an image as the package imagecorruptions damages it after numpy.random.seed(SEED), byte for byte."""
    from PIL import Image as Images

    from ..data import corruptions
    from ..images import open_image
    from ..requests import ImageRef

    corruptions.check(kind, severity)
    if not 0 <= seed <= MOST:
        raise BadInput(f"--seed {seed}: expected 0 to {MOST}, as numpy does")
    place = Path(out)
    if place.suffix.lower() != ".png":
        raise BadInput(f"--out {out}: must end in .png: other formats lose what the corruption did")
    if not Path(image).is_file():
        raise BadInput(f"{image}: no such image file")
    import numpy as np

    pixels = np.asarray(open_image(ImageRef(image)))
    _write(Images.fromarray(corruptions.corrupt(pixels, kind, severity, seed)), place)
    print(place)
    return EXIT_OK


def _write(image: Image, path: Path) -> None:
    """A whole PNG file or none."""
    made = io.BytesIO()
    image.save(made, format="PNG")
    try:
        write_whole(path, [made.getvalue()])
    except OSError as error:
        raise BadInput(f"--out {path}: cannot write there ({error.strerror})") from error
