"""A Hugging Face checkpoint on disk: its configuration, its files and their fingerprints; no weights are read in."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import write_whole

log = logging.getLogger(__name__)

_LENGTH_NAMES = ("n_positions", "max_position_embeddings", "n_ctx")  # in lm-eval's order (models/utils.py)
_DEFAULT_LENGTH, _NO_LENGTH = 2048, 10**9  # lm-eval's default; tokenizers write 1e30 for "not set"

# transformers' own order of preference (modeling_utils._get_resolved_checkpoint_files).
_WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_TOKENIZER_FILES = (
    "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "spiece.model", "sentencepiece*.model", "*.tiktoken",
)  # fmt: skip
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
# Where a file was made or by what, not what it says.
_NOISE = ("_name_or_path", "name_or_path", "transformers_version", "base_model_name_or_path", "revision")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        target: As the user named it.
        folder: Where its files are (a snapshot of the hub's cache for a hub id).
        commit: Commit hash of a hub id, else empty.
        config: Its transformers configuration.
        extracted: It holds only the language model of the multimodal checkpoint that was named.
    """

    target: str
    folder: Path
    commit: str
    config: Any = field(repr=False)
    extracted: bool = False

    @property
    def source(self) -> str:
        """What to give to `from_pretrained`."""
        return self.target if self.commit else str(self.folder)

    @property
    def revision(self) -> dict[str, Any]:
        """The revision argument of `from_pretrained`, pinned to the commit that was resolved first."""
        return {"revision": self.commit} if self.commit else {}

    @cached_property
    def multimodal(self) -> bool:
        """Whether transformers has an image-text-to-text class for it."""
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        return type(self.config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    def weight_files(self) -> list[Path]:
        """The weight files that would be loaded.

        Raises:
            BadInput: There are none, or a shard is missing.
        """
        for name in _WEIGHT_FILES:
            file = self.folder / name
            if not file.is_file():
                continue
            if not name.endswith(".index.json"):
                return [file]
            shards = sorted({self.folder / shard for shard in read_json(file)["weight_map"].values()})
            missing = [shard.name for shard in shards if not shard.is_file()]
            if missing:
                raise BadInput(f"hf:{self.target}: {name} names files that are not there: {', '.join(missing)}")
            return shards
        raise BadInput(f"hf:{self.target}: no weights there (expected {_WEIGHT_FILES[0]}, or shards with their index)")

    def fetch_weights(self) -> list[Path]:
        """The weight files, brought from the hub first where need be."""
        if self.commit:
            from transformers.utils import cached_file

            for name in _WEIGHT_FILES:
                options = {"revision": self.commit, "_raise_exceptions_for_missing_entries": False}
                file = cached_file(self.target, name, **options)
                if file and name.endswith(".index.json"):
                    for shard in sorted(set(read_json(Path(file))["weight_map"].values())):
                        cached_file(self.target, shard, revision=self.commit)
                if file:
                    break
        return self.weight_files()

    def fingerprints(self) -> dict[str, str]:
        """Hashes of weights, configuration, tokenizer and processor; no path enters them."""
        weights = self.commit or _join_hashes(file_hash(file) for file in self.weight_files())
        return {
            "weights": weights,
            "config": self._hash_small(("config.json",)),
            "tokenizer": self._hash_small(_TOKENIZER_FILES),
            "processor": self._hash_small(_PROCESSOR_FILES),
        }

    def _hash_small(self, patterns: tuple[str, ...]) -> str:
        names = sorted(n for n in os.listdir(self.folder) if any(fnmatch.fnmatch(n, p) for p in patterns))
        return _join_hashes(name + small_hash(self.folder / name) for name in names)


def open_checkpoint(target: str, revision: str = "") -> Checkpoint:
    """Reads a checkpoint's configuration.

    Raises:
        BadInput: Not there, not a checkpoint, or a hub id that cannot be reached.
    """
    if not target:
        raise BadInput("hf: needs a checkpoint: hf:FOLDER, or hf:ID of the hub")
    folder = Path(target)
    if folder.is_dir():
        return Checkpoint(target, folder, "", _local_config(target, folder))
    if folder.exists():
        raise BadInput(f"hf:{target}: a file, not a checkpoint folder")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", target) or target.startswith("."):
        raise BadInput(f"hf:{target}: no such folder")
    return _hub_checkpoint(target, revision)


def _local_config(target: str, folder: Path) -> Any:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        cure = "a checkpoint folder has a config.json"
        if (folder / "adapter_config.json").is_file():
            cure = f"it is a PEFT adapter: give its base model, and -M adapter={target}"
        raise BadInput(f"hf:{target}: not a checkpoint; {cure}")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"hf:{target}: its config.json cannot be read: {one_line(error)}") from error


def _hub_checkpoint(target: str, revision: str) -> Checkpoint:
    from huggingface_hub import try_to_load_from_cache
    from transformers import AutoConfig

    try:
        with _quiet("huggingface_hub"):  # it tells of each of its retries
            config = AutoConfig.from_pretrained(target, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        at = f" at revision {revision}" if revision else ""
        if "connect" in str(error):
            raise BadInput(
                f"hf:{target}: no such folder, it is not in the hub's cache{at}, and the hub cannot be reached: "
                f"give a checkpoint folder, or try again with network"
            ) from error
        raise BadInput(f"hf:{target}: no such folder, and no such model{at} on the hub or in its cache") from error
    file = try_to_load_from_cache(target, "config.json", revision=revision or "main")
    if not isinstance(file, str):
        raise BadInput(f"hf:{target}: the hub's cache lost its config.json; try again")
    return Checkpoint(target, Path(file).parent, Path(file).parent.name, config)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Only errors of a library's log."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    text = str(error).strip()
    return " ".join(text.splitlines()[0].split())[:300] if text else type(error).__name__


def small_hash(file: Path) -> str:
    """SHA-256 of a small file; JSON is compared by content, without the fields that only say where it came from."""
    data = file.read_bytes()
    if file.suffix == ".json":
        content = read_json(file)
        if isinstance(content, dict):
            content = {key: value for key, value in content.items() if key not in _NOISE}
        data = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def read_json(file: Path) -> Any:
    """A JSON file's content; raises `BadInput` if it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{file}: not valid JSON ({error})") from error


def _join_hashes(parts: Any) -> str:
    parts = list(parts)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def file_hash(file: Path) -> str:
    """SHA-256 of a large file, remembered in the user's cache by path, size and time of change."""
    path, stat = file.resolve(), file.stat()
    key, state = str(path), [stat.st_size, stat.st_mtime_ns]
    known = _read_known()
    if known.get(key, [])[:2] == state:
        return str(known[key][2])
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    _write_known({**_read_known(), key: [*state, digest]})
    return digest


def _known_file() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mmeval" / "weights.json"


def _read_known() -> dict[str, list[Any]]:
    try:
        known = json.loads(_known_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no cache yet, or a damaged one: the files are hashed again
    return known if isinstance(known, dict) else {}


def _write_known(known: dict[str, list[Any]]) -> None:
    file = _known_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, [json.dumps(known).encode("utf-8")])
    except OSError as error:
        log.info("weights are hashed anew each time: %s cannot be written (%s)", file, error.strerror)


@dataclass(frozen=True)
class Ends:
    """What ends a text, and what fills up a batch.

    Attributes:
        eos: End-of-sequence ids of the checkpoint.
        pad: Id of padding.
    """

    eos: tuple[int, ...]
    pad: int


def ends(checkpoint: Checkpoint, tokenizer: Any) -> Ends:
    """End tokens of the checkpoint's generation config and tokenizer, and something to pad with."""
    from transformers import GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(checkpoint.source, **checkpoint.revision)
    except OSError as error:
        if (checkpoint.folder / "generation_config.json").is_file():
            raise BadInput(f"hf:{checkpoint.target}: its generation_config.json cannot be read: {error}") from error
        config = GenerationConfig(eos_token_id=getattr(checkpoint.config.get_text_config(), "eos_token_id", None))
    given = config.eos_token_id
    eos = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    known = tuple(dict.fromkeys(int(token) for token in eos if token is not None))
    pads = (tokenizer.pad_token_id, tokenizer.unk_token_id, *known, 0)
    return Ends(known, next(int(token) for token in pads if token is not None))


def max_length(config: Any, tokenizer: Any) -> int:
    """Most tokens the model takes, found as lm-eval finds it."""
    text = getattr(config, "text_config", None) or config
    for name in _LENGTH_NAMES:
        if getattr(text, name, None) is not None:
            return int(getattr(text, name))
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < _NO_LENGTH else _DEFAULT_LENGTH
