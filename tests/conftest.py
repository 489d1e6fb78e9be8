"""The ground all tests stand on: one thread, no hub, caches of their own, nothing of the user's environment.

It is the environment, not fixtures, that is set: libraries read it when they are imported, and processes started by a
test inherit it. With pytest-xdist every worker does the same for itself.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import tempfile
from typing import Any

CACHE = tempfile.TemporaryDirectory(prefix="mmeval-tests-")

os.environ.update(
    {
        # more threads than one would change sums from run to run, and tests share the machine's cores
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "XDG_CACHE_HOME": CACHE.name,
        "HF_HOME": f"{CACHE.name}/huggingface",
        "HF_DATASETS_CACHE": f"{CACHE.name}/huggingface/datasets",
        "MPLCONFIGDIR": f"{CACHE.name}/matplotlib",
    }
)
for name in ("MMEVAL_DATA", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "COLUMNS"):
    os.environ.pop(name, None)

# A shell's background jobs start with Ctrl-C ignored, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
        raise AssertionError(f"a test tried to reach {address[0]}: tests may use the loopback interface only")
    _connect(self, address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


socket.socket.connect = _loopback_only  # type: ignore[method-assign, assignment]
