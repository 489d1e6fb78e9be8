"""Several files of a submission: runs of one model, or files of several?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import BadInput

RUN_NUMBER = re.compile(r"[-_. ]?(?:(?:eval|run|seed|trial|review)[-_ ]?)?\d+$", re.IGNORECASE)  # at a name's end


def refuse_several_models(paths: Sequence[Path], name: Callable[[Path], str] = lambda path: path.stem) -> None:
    """Refuses files of a folder that are no runs of one model.

    Args:
        paths: The files.
        name: What of a file's name says whose it is, run number aside.

    Raises:
        BadInput: Names differ in more than a number at their end.
    """
    first = {RUN_NUMBER.sub("", name(path)): path for path in reversed(paths)}
    if len(first) > 1:
        one, other, *_ = reversed(first.values())
        raise BadInput(
            f"--answers {one.parent}: {one.name} and {other.name} seem to be of several models; name the file "
            f"(several runs of one model: --answers 1=FILE --answers 2=FILE)"
        )
