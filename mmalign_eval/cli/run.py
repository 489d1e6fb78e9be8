"""`mmeval run`: score models on tasks."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_OK, EXIT_TOO_MANY_ERRORS, EXIT_WANTING, BadInput, did_you_mean
from .names import pairs_of_options, split_names

if TYPE_CHECKING:
    from ..evaluate import RunConfig

Texts = list[str] | None
LEAST = {"limit": 1, "few_shot": 0, "max_errors": 0, "judge_runs": 1}


def run(
    model: Annotated[
        Texts,
        typer.Option(
            "--model",
            "-m",
            help="mini, hf:PATH_OR_ID, vllm:PATH_OR_ID, openai:NAME or scripted:FILE; repeatable. "
            "Options for one model follow it: hf:PATH,dtype=bfloat16",
        ),
    ] = None,
    tasks: Annotated[Texts, typer.Option("--tasks", "-t", help="Names, groups or globs, comma-separated [all]")] = None,
    model_option: Annotated[
        Texts,
        typer.Option(
            "-M",
            help="KEY=VALUE for every model: adapter, backbone, dtype, device, device_map, attn, "
            "revision, batch_tokens, base_url ...",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="First N samples of each part of a task", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run [0]")] = None,
    few_shot: Annotated[int | None, typer.Option(help="Shots, for tasks that have shots", min=0)] = None,
    protocol: Annotated[Texts, typer.Option(help="NAME for all tasks, or TASK=NAME")] = None,
    data: Annotated[
        Texts, typer.Option(help="mini, hub, DIR or TASK=DIR [$MMEVAL_DATA, else mini for --model mini, else hub]")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for result files [results]")] = None,
    store: Annotated[str | None, typer.Option(help="Response store [OUT/store.sqlite]")] = None,
    max_errors: Annotated[int | None, typer.Option(help="Failed samples above which to exit with 4 [0]", min=0)] = None,
    include: Annotated[Texts, typer.Option(help="Task plugin FILE.py; repeatable")] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Who judges where a task has a role for it: openai:NAME, hf:PATH ...; rule: no model [rule]"),
    ] = None,
    judge_runs: Annotated[int | None, typer.Option(help="Verdicts on each answer [1]", min=1)] = None,
    judge_budget: Annotated[
        str | None, typer.Option(help="Most that judging may cost: dollars (5), calls (500calls) or both: 5,500calls")
    ] = None,
    corrupt_cache: Annotated[
        str | None, typer.Option(help="Keep corrupted images beside the store, at most so much: 5GB, 500MB")
    ] = None,
    base: Annotated[
        str, typer.Option(help="Results to compare with, a model's folder [of each tuned model its base's beside it]")
    ] = "",
    config: Annotated[str | None, typer.Option(help="YAML file with the same keys; options given here win")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be asked; load no weights")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time went: throughput, tokens, cache hits, phases")
    ] = False,
) -> int:
    """Score models on tasks. Answered requests are kept: the same command again asks nothing twice."""
    given: dict[str, Any] = {
        "models": model,
        "tasks": tasks and split_names(tasks),
        "model_options": None if model_option is None else pairs_of_options(model_option, "-M"),
        "limit": limit,
        "seed": seed,
        "few_shot": few_shot,
        "protocol": protocol and split_names(protocol),
        "data": data,
        "out": out,
        "store": store,
        "max_errors": max_errors,
        "include": include,
        "judge": judge,
        "judge_runs": judge_runs,
        "judge_budget": judge_budget,
        "corrupt_cache": corrupt_cache,
    }
    settings = _settings(read_config(config) if config else {}, given)

    from ..compare import model_runs
    from ..compare.bases import against_bases
    from ..evaluate import evaluate
    from .profile import print_profile
    from .progress import ConsoleReporter
    from .table import print_results

    if base:
        model_runs(base)  # before hours of work, not after them
    outcome = evaluate(settings, ConsoleReporter(dry_run=dry_run), dry_run=dry_run, profile=profile)
    if dry_run:
        return EXIT_OK
    against, problems = against_bases(outcome.paths, base)
    print_results(outcome.results, outcome.paths, against)
    if profile:
        print_profile(outcome.results, outcome.paths)
    for line in problems:
        print(f"mmeval: {line}", file=sys.stderr)
    if outcome.errors > settings.max_errors:
        return EXIT_TOO_MANY_ERRORS
    return EXIT_WANTING if problems else EXIT_OK


def read_config(path: str) -> dict[str, Any]:
    """Reads `--config FILE.yaml`: the keys of `RunConfig`.

    Raises:
        BadInput: Missing file, not a mapping, an unknown key (with did-you-mean), a value of the wrong kind.
    """
    import yaml

    from ..evaluate import RunConfig

    file = Path(path)
    if not file.is_file():
        raise BadInput(f"--config {path}: no such file")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"--config {path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise BadInput(f"--config {path}: expected keys and values")
    known = [f.name for f in fields(RunConfig)]
    for key in found:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise BadInput(f"--config {path}: unknown key {key!r}{hint}; known: {', '.join(known)}")
    return {key: _typed(path, key, value) for key, value in found.items() if value is not None}


def _typed(path: str, key: str, value: Any) -> Any:
    if key in ("limit", "seed", "few_shot", "max_errors", "judge_runs"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadInput(f"--config {path}: {key}: expected a whole number, found {value!r}")
        if key in LEAST and value < LEAST[key]:
            raise BadInput(f"--config {path}: {key}: expected {LEAST[key]} or more, found {value}")
        return value
    if key == "model_options":
        if not isinstance(value, dict):
            raise BadInput(f"--config {path}: model_options: expected keys and values")
        return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}
    if key in ("out", "store", "judge", "judge_budget", "corrupt_cache"):
        return str(value)
    return [str(v) for v in value] if isinstance(value, list) else split_names([str(value)])


def _settings(config: dict[str, Any], given: dict[str, Any]) -> RunConfig:
    """Command line over file over defaults."""
    from ..evaluate import RunConfig

    merged = {**config, **{key: value for key, value in given.items() if value is not None}}
    merged["model_options"] = {**config.get("model_options", {}), **(given["model_options"] or {})}
    if not merged.get("models"):
        raise BadInput("no model given: --model mini, hf:PATH_OR_ID, vllm:PATH_OR_ID, openai:NAME or scripted:FILE")
    for key in ("models", "tasks", "protocol", "data", "include"):
        if key in merged:
            merged[key] = tuple(merged[key])
    return RunConfig(**merged)
