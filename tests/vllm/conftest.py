"""Tests that need vLLM, which has a virtual environment of its own: run by `make test-vllm`, not by `make test`."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]
