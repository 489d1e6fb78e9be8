"""`python -m mmalign_eval` is `mmeval`."""

from .cli.main import entry

entry()
