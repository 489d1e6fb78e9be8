"""Result files as pandas data frames, for analyses of one's own."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput, Damaged, did_you_mean
from .runs import Run, by_model, open_runs
from .scores import judged, said, sample_scores

if TYPE_CHECKING:
    import pandas as pd

# Columns and their types; "str" is pandas' own choice for text (object before pandas 3).
METRIC_COLUMNS = {
    "model": "str", "task": "str", "protocol": "str", "judge": "str", "metric": "str", "value": "float64",
    "low": "float64", "high": "float64", "stderr": "float64", "n": "int64", "clusters": "int64", "unit": "str",
    "better": "str", "headline": "bool", "base": "str", "data": "str", "signature": "str", "path": "str",
}  # fmt: skip
SAMPLE_COLUMNS = {
    "model": "str", "task": "str", "protocol": "str", "judge": "str", "id": "str", "part": "str", "cluster": "str",
    "status": "str", "error": "str", "image": "str", "prompt": "str", "answer": "str", "reference": "str",
    "score": "float64", "scored_by": "str",
}  # fmt: skip
_LONE = re.compile("[\ud800-\udfff]")
RECORD = "record."  # before the name of a record's field: fields may be called as columns are


class Results:
    """Result files as two data frames.

    Attributes:
        runs: The result files, opened.
        problems: One line for each file that could not be read and is left out; samples files are looked at when
            `samples` is first asked for.
    """

    def __init__(self, runs: Sequence[Run], problems: Sequence[str] = (), fields: Sequence[str] = ()) -> None:
        self.runs = list(runs)
        self.problems = list(problems)
        self._fields = tuple(fields)
        self._models = {run.path: model for model, runs in by_model(self.runs).items() for run in runs}

    def __repr__(self) -> str:
        models = list(dict.fromkeys(self._models.values()))
        problems = f"; not read: {len(self.problems)}" if self.problems else ""
        whose = ", ".join(models) if len(models) < 5 else f"{len(models)} models"
        return f"<Results of {whose or 'no model'}: {len(self.runs)}{problems}>"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row for each metric of each result.

        Columns: `model` (its name; with the folder's where two have one), `task`, `protocol`, `judge` (empty without
        one), `metric`; `value` with its 95 % interval `low` and `high` and `stderr` (NaN where undefined), `n` samples
        in `clusters`, `unit` (`fraction` is 0 to 1), `better` (`higher`, `lower`, `neither`), `headline` (whether
        tables show it unasked); `base` (name of the model that this one was tuned from, or empty), `data` (where the
        samples are from), `signature` (what comparable values share), `path` of the file.
        """
        return _frame(METRIC_COLUMNS, (row for run in self.runs for row in self._metric_rows(run)))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row for each sample of each result; read at first use.

        Columns: `model`, `task`, `protocol`, `judge` as in `metrics`; `id`, `part` (split or subtask), `cluster` (what
        samples are not independent within), `status` (`ok`, `truncated`, `error`, `refused`) and `error`; `image`
        (path of the first, or empty), `prompt`, `answer` (of options the likeliest) and `reference`; `score`, the
        sample's own value of the metric `scored_by`: the first of the headline that has one (NaN where none has, or
        the sample failed); `record.FIELD` for each of `fields`.

        Results without their samples file (copies on a leaderboard) or with a damaged one are left out, with a line
        in `problems` and a warning.

        Raises:
            BadInput: One of `fields` is in no record.
        """
        rows: list[dict[str, Any]] = []
        known: set[str] = set()
        problems: list[str] = []
        for run in self.runs:
            try:
                read = list(run.samples())
                scored = list(self._sample_rows(run, read))
            except Damaged as error:
                problems.append(str(error))
                continue
            rows += scored
            known.update(name for row in read for name in row["record"] or ())
        self.problems += problems
        _warn(problems, above=2)  # of a cached property
        for field in self._fields if rows else ():
            if field not in known:
                raise BadInput(f"fields: no record has {field!r}{did_you_mean(field, known)}")
        return _frame(SAMPLE_COLUMNS, rows, [RECORD + field for field in self._fields])

    def _metric_rows(self, run: Run) -> Iterator[dict[str, Any]]:
        shared = {
            **self._shared(run),
            "base": run.tuned.get("base", {}).get("name", ""),
            "data": run.result["data"]["source"],
            "signature": run.result.get("signature", ""),
            "path": str(run.path),
        }
        headline = set(run.headline)
        for name, metric in run.result["metrics"].items():
            yield {**metric, **shared, "metric": name, "headline": name in headline}

    def _sample_rows(self, run: Run, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        shared, scores = self._shared(run), sample_scores(run.result, run.sums)
        for row in rows:
            score, record = scores.get(row["id"]) if judged(row) else None, row["record"] or {}
            yield {
                **shared,
                **{name: row[name] for name in ("id", "part", "cluster", "status", "error", "reference")},
                "image": row["images"][0]["path"] if row["images"] else "",
                "prompt": "\n".join(dict.fromkeys(row["prompts"])),
                "answer": said(row),
                "score": score.value if score else None,
                "scored_by": score.metric if score else "",
                **{RECORD + field: record.get(field) for field in self._fields},
            }

    def _shared(self, run: Run) -> dict[str, Any]:
        return {"model": self._models[run.path], "task": run.task, "protocol": run.protocol, "judge": run.judge}


def load_results(path: str | os.PathLike[str], *more: str | os.PathLike[str], fields: Sequence[str] = ()) -> Results:
    """Reads the result files at or below some places.

    Files that are damaged or of another version are left out, with a line in `problems` and a warning each.

    Args:
        path: A result file, a folder, or a glob of such (`results/*/TASK.json`).
        more: Further ones; a file that several of them name is read once.
        fields: Fields of the tasks' records that `samples` has as well, as columns `record.FIELD`.

    Raises:
        BadInput: A place that is not there, or has no result file.
    """
    if isinstance(fields, str):
        raise BadInput(f"fields={fields!r}: give a list of names, [{fields!r}]")
    runs, problems = open_runs(*(place for one in (path, *more) for place in _places(one)))
    problems = list(dict.fromkeys(problems))
    _warn(problems)
    return Results(list({run.path.resolve(): run for run in runs}.values()), problems, fields)


def _places(place: str | os.PathLike[str]) -> list[str]:
    text = os.fspath(place)
    if not glob.has_magic(text) or Path(text).exists():
        return [text]
    found = sorted(one for one in glob.glob(text, recursive=True) if Path(one).is_dir() or one.endswith(".json"))
    if not found:
        raise BadInput(f"{text}: no file or folder fits")
    return found


def _warn(problems: Iterable[str], above: int = 1) -> None:
    for line in problems:
        warnings.warn(line, stacklevel=above + 2)


def _frame(columns: dict[str, str], rows: Iterable[dict[str, Any]], more: Sequence[str] = ()) -> pd.DataFrame:
    import pandas as pd

    kept = list(rows)
    kinds = {**columns, **dict.fromkeys(more, "any")}
    return pd.DataFrame({name: _column([row[name] for row in kept], kind) for name, kind in kinds.items()})


def _column(values: list[Any], kind: str) -> pd.Series:
    import pandas as pd

    if kind not in ("str", "any"):
        return pd.Series(values, dtype=kind)
    try:
        return pd.Series(values, dtype=None if values else object)
    except UnicodeEncodeError:  # half a character, which a model may say and JSON carry, has no place in Arrow's text
        return pd.Series([_LONE.sub("\ufffd", value) if isinstance(value, str) else value for value in values])
