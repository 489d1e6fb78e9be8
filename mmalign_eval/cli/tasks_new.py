"""`mmeval tasks new`: a working task and its test, to be changed into one's own."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from ..errors import BadInput
from ..registry import TASKS

SKELETONS = Path(__file__).with_name("skeletons")
NAME = re.compile(r"[a-z][a-z0-9_]*")


def write_task(name: str, folder: str, *, image: bool) -> tuple[Path, Path, str]:
    """Writes `NAME.py` and `test_NAME.py`.

    Args:
        name: Name of the task.
        folder: Where to; made if it is not there.
        image: About images, else text alone.

    Returns:
        Both files, and the name of the data file that the task reads.

    Raises:
        BadInput: A name that cannot be one or is taken, a file that exists, a folder that cannot be written.
    """
    _check_name(name)
    place = Path(folder)
    task_file, test_file = place / f"{name}.py", place / f"test_{name}.py"
    for file in (task_file, test_file):
        if file.exists():
            raise BadInput(f"{file} exists and is not overwritten: choose another name or --dir")
    _check_free(name)
    kind = "image" if image else "text"
    words = {"name": name, "camel": "".join(part.capitalize() for part in name.split("_"))}
    try:
        place.mkdir(parents=True, exist_ok=True)
        for file, skeleton in ((task_file, f"{kind}.tmpl"), (test_file, f"{kind}_test.tmpl")):
            text = (SKELETONS / skeleton).read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--dir {folder}: cannot write there ({error.strerror})") from error
    return task_file, test_file, f"{name}.jsonl"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("test_"):
        hint = re.sub(r"\W+", "_", name.lower()).strip("_")
        usable = NAME.fullmatch(hint) and not keyword.iskeyword(hint) and not hint.startswith("test_")
        cure = f" - for example {hint!r}" if usable else ""
        raise BadInput(f"{name!r} cannot be the name of a task: small letters, digits and _, a letter first{cure}")


def _check_free(name: str) -> None:
    if name in TASKS.names() or name in TASKS.groups():
        raise BadInput(f"{name!r} is already a task or a group: `mmeval tasks list` shows all")
    if importlib.util.find_spec(name) is not None:
        raise BadInput(f"{name}.py would hide the Python module {name!r} from its neighbours: choose another name")
