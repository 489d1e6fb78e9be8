"""Prints what a wheel says it needs, as pip's requirements: one a line, those that apply here, without some.

python requirements.py WHEEL [NAME ...]     the names left out
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def declared(wheel: Path) -> list[Requirement]:
    """The wheel's requirements that apply to this interpreter and machine, extras aside."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    every = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    return [r for r in every if r.marker is None or r.marker.evaluate({"extra": ""})]


def without(requirements: Iterable[Requirement], names: Iterable[str]) -> list[str]:
    """As lines for pip, markers dropped."""
    left_out = {canonicalize_name(name) for name in names}
    kept = [r for r in requirements if canonicalize_name(r.name) not in left_out]
    for requirement in kept:
        requirement.marker = None
    return [str(requirement) for requirement in kept]


if __name__ == "__main__":
    print("\n".join(without(declared(Path(sys.argv[1])), sys.argv[2:])))
