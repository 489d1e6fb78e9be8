"""One lm-eval task on documents of ours: its YAML read by path, its data handed in, its shots fixed per document."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, MmevalError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

FEWSHOT_SEED = 1234  # lm_eval/defaults.py DEFAULT_OTHER_SEED, what `lm_eval run` uses unless told otherwise
STRUCTURAL = ("tag", "group", "task_list", "class")  # keys of a task file that are no task configuration

Doc = dict[str, Any]


@dataclass(frozen=True)
class PartSpec:
    """One lm-eval task that is a part of one of ours.

    Attributes:
        name: Name of the part.
        config: lm-eval's configuration, includes merged; `class` holds the class of a task written in Python.
        shots: Demonstrations; None: lm-eval's own number.
    """

    name: str
    config: Mapping[str, Any]
    shots: int | None = None

    @property
    def cls(self) -> type[ConfigurableTask]:
        """Its lm-eval class."""
        from lm_eval.api.task import ConfigurableTask

        return self.config.get("class", ConfigurableTask)

    @cached_property
    def declared(self) -> ConfigurableTask:
        """The lm-eval task without data: version, metrics, aggregations; it has no documents."""
        return _construct(self, splits=None)

    @property
    def version(self) -> str:
        """Version of the task file."""
        return str(self.declared.VERSION)


def load_config(path: str) -> dict[str, Any]:
    """A task file of the installed lm-eval, by its path below `lm_eval/tasks`, without building the task index.

    Raises:
        BadInput: The installed lm-eval has no such file.
    """
    quiet()
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml  # no public way to read one file without the index of all

    folder = Path(lm_eval.__file__).parent / "tasks"
    file = folder / path
    if not file.is_file():
        near = [str(p.relative_to(folder)) for p in file.parent.glob("*.yaml")]
        hint = did_you_mean(path, near)
        raise BadInput(f"the installed lm-eval has no task file {path}{hint}; install lm-eval 0.4.13")
    return dict(load_yaml(file))


@cache
def quiet() -> None:
    """Once: silences lm-eval's remarks on its own task files, and keeps the templates it compiles.

    lm-eval compiles a document's Jinja template anew at each use (about 1 ms); compiled templates are stateless.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.utils import env

    env.from_string = lru_cache(maxsize=512)(env.from_string)


class Splits(dict[str, "Dataset"]):
    """Documents by split. A split that only shots would need may be missing as long as there are no shots."""

    def __init__(self, documents: Mapping[str, Sequence[Doc]], where: str, shots: bool) -> None:
        from datasets import Dataset

        super().__init__({name: Dataset.from_list(list(docs)) for name, docs in documents.items()})
        self._where, self._shots = where, shots

    def __missing__(self, name: str) -> Dataset:
        if self._shots:
            raise BadInput(f"{self._where}: no documents of split {name!r} (needed for the shots); found {self.found}")
        from datasets import Dataset

        return next(iter(self.values())).select([]) if self else Dataset.from_dict({})

    @property
    def found(self) -> str:
        """Names of the splits there are."""
        return ", ".join(sorted(self)) or "none"


class ShotBook:
    """lm-eval's sampler with its draws kept by document number.

    lm-eval advances one generator over the documents in order, so a document's shots depend on how many came before
    it. Draws are made in that order and looked up, whichever documents are asked for and in whatever order.
    """

    def __init__(self, sampler: Any, docs: Sequence[Doc], where: str) -> None:
        self._sampler, self._docs, self._where = sampler, docs, where
        self._drawn: list[Sequence[Doc]] = []
        self.number = 0

    def sample(self, n: int, eval_doc: Doc | None = None) -> Sequence[Doc]:
        """The shots of document `number`; `eval_doc` says whether a document may be its own shot."""
        there = len(self._sampler.df or ()) - (eval_doc is not None)
        if n > there:
            raise BadInput(f"{self._where}: {n} shots asked for, {max(there, 0)} documents to take them from")
        while len(self._drawn) <= self.number:
            own = None if eval_doc is None else self._docs[len(self._drawn)]
            self._drawn.append(self._sampler.sample(n=n, eval_doc=own))
        return self._drawn[self.number]


class Part:
    """One lm-eval task with its documents."""

    def __init__(self, spec: PartSpec, documents: Mapping[str, Sequence[Doc]] | None, where: str) -> None:
        """Builds lm-eval's task object.

        Args:
            spec: Which task.
            documents: Split name to documents; None: lm-eval downloads its own data set.
            where: Task and part, for messages.

        Raises:
            BadInput: A split or a column is missing, the data cannot be downloaded, shots that the task does not
                take, or a kind of task that is not text in, text out.
        """
        self.spec, self.where = spec, where
        self.shots = _shots(spec, where)
        splits = None if documents is None else Splits(documents, where, self.shots > 0)
        try:
            with _no_progress_bars():
                self.task = _construct(spec, splits, download=documents is None)
                self.docs: list[Doc] = list(self.task.eval_docs)
        except MmevalError:
            raise
        except Exception as error:
            raise BadInput(_unreadable(where, documents, error)) from error
        if getattr(self.task, "MULTIMODAL", False) or getattr(self.task, "UNSAFE_CODE", False):
            raise BadInput(f"{where}: lm-eval tasks with images, audio or code to execute cannot be run here")
        self.task.set_config(key="num_fewshot", value=self.shots)
        self.task.set_fewshot_seed(seed=FEWSHOT_SEED)
        self._book = ShotBook(getattr(self.task, "sampler", None), self.docs, where)
        self.task.sampler = self._book

    @property
    def split(self) -> str:
        """Name of the evaluated split."""
        config = self.task.config
        return config.test_split or config.validation_split or ("test" if self.task.has_test_docs() else "validation")

    def instances(self, number: int, doc: Doc) -> list[Instance]:
        """lm-eval's requests for document `number`, prompts rendered by the task's own code."""
        self._book.number = number
        context = self.task.fewshot_context(
            doc,
            num_fewshot=self.shots,
            system_instruction=None,
            apply_chat_template=False,
            fewshot_as_multiturn=False,
            chat_template=None,
            gen_prefix=self.task.doc_to_prefix(doc),
        )
        made = self.task.construct_requests(
            doc=doc,
            ctx=context,
            metadata=(self.task.config.task, number, self.task.config.repeats),
            apply_chat_template=False,
            chat_template=None,
        )
        return made if isinstance(made, list) else [made]


def _construct(spec: PartSpec, splits: Splits | None, download: bool = False) -> ConfigurableTask:
    """An lm-eval task fed with `splits`; without them and without download, one that stops before it needs data."""
    quiet()
    base = spec.cls

    class Fed(base):  # type: ignore[valid-type,misc]
        def download(self, *args: Any, **kwargs: Any) -> None:
            if splits is not None:
                self.dataset = splits
            elif download:
                super().download(*args, **kwargs)
            else:
                raise _EnoughError

        @property
        def eval_docs(self) -> Any:
            docs = super().eval_docs
            if splits is not None and not len(docs):
                raise BadInput(f"no documents of the evaluated split; found {splits.found}")
            return docs

    Fed.__name__, Fed.__qualname__ = base.__name__, base.__qualname__
    config = deepcopy({k: v for k, v in spec.config.items() if k not in STRUCTURAL})
    task: ConfigurableTask = Fed.__new__(Fed)
    # a class task may take no configuration (it holds its own), as lm-eval's own factory allows
    arguments = {"config": config} if "config" in inspect.signature(base.__init__).parameters else {}
    with suppress(_EnoughError):  # metrics and version are set up before the data is asked for
        task.__init__(**arguments)
    return task


class _EnoughError(Exception):
    """Stops lm-eval's constructor where it would load data."""


def _shots(spec: PartSpec, where: str) -> int:
    own = spec.declared.config.num_fewshot
    if spec.shots and own == 0:
        raise BadInput(f"{where}: --few-shot {spec.shots}: its lm-eval definition fixes 0 shots")
    return spec.shots if spec.shots is not None else own or 0


def _unreadable(where: str, documents: Mapping[str, Sequence[Doc]] | None, error: Exception) -> str:
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if documents is None:
        return f"{where}: lm-eval cannot load its data ({cause}); without network give --data {where.split('/')[0]}=DIR"
    columns = {split: sorted(docs[0]) for split, docs in documents.items() if docs}
    return f"{where}: lm-eval cannot read these documents ({cause}); columns by split: {columns}"


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """`datasets` draws a bar for every map over documents; a caller's own setting is put back."""
    import datasets

    were_on = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_on:
            datasets.enable_progress_bars()
