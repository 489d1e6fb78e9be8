"""Shared by the tests of all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TEST_DATA = "MMEVAL_TEST_DATA"
REPO = Path(__file__).parents[1]


def shared_data(name: str) -> Path:
    """A benchmark's real files: folder `name` under $MMEVAL_TEST_DATA.

    Skips the test where the variable is not set; where it is set, a missing folder is an error, so that a test for
    which the data were provided never passes over them in silence.
    """
    root = os.environ.get(TEST_DATA)
    if not root:
        pytest.skip(f"{TEST_DATA} is not set")
    folder = Path(root) / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{TEST_DATA} is set, but there is no {folder}")
    return folder
