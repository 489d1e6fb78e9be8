"""`mmeval tune positives`, `negatives` and `quality`: preference data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_OK, EXIT_TOO_MANY_ERRORS, BadInput, did_you_mean
from .files import write_json
from .names import pairs_of_options, split_names

if TYPE_CHECKING:
    from ..tuning.positives import Counts

Texts = list[str]


def positives(
    source: Annotated[
        Texts,
        typer.Option(
            help="NAME=FILE or NAME=FILE:N, N drawn uniformly; repeatable. LLaVA-style conversations (ShareGPT4V, "
            "LLaVAR, LLaVA-Instruct), or a preference file, of which the preferred answers"
        ),
    ],
    out: Annotated[str, typer.Option(help="FILE.jsonl to write")],
    folder: Annotated[
        Texts | None,
        typer.Option(help="NAME=FOLDER: put before a source's image names, as in llava=coco/train2017; repeatable"),
    ] = None,
    images: Annotated[str, typer.Option(help="Root of all images: check that every one is there")] = "",
    seed: Annotated[int, typer.Option(help="Of the draws")] = 0,
    json_to: Annotated[str, typer.Option("--json", help="Counts as JSON: FILE, or - for standard output")] = "",
) -> int:
    """Collect annotated (image, prompt, response) turns, the preferred side of preference pairs."""
    from dataclasses import asdict

    from ..tuning.data import need_images
    from ..tuning.pairs import check_place
    from ..tuning.positives import collect, in_folders, parse_source, write_positives

    place = Path(out)
    check_place(place)
    sources = in_folders([parse_source(given) for given in source], pairs_of_options(folder or [], "--folder"))
    found, counts = collect(sources, seed)
    if images:
        need_images((one.image for one in found), Path(images), out)
    digest = write_positives(place, found)
    if json_to:
        told = {name: asdict(of) for name, of in counts.items()}
        write_json(json_to, {"seed": seed, "sha256": digest, "positives": len(found), "sources": told})
    if json_to != "-":
        _print_counts(counts)
        print(f"positives  {len(found):,} in {out}")
    return EXIT_OK


def _print_counts(counts: Mapping[str, Counts]) -> None:
    from ..tables import TextTable
    from .table import print_table

    rows = []
    notes = []
    for name, of in counts.items():
        figures = (of.rows, of.without_image, of.turns, of.without_question, of.repeated, of.drawn)
        rows.append((name, *(f"{figure:,}" for figure in figures)))
        notes += [f"{name}: {count:,} rows: {what}" for what, count in {**of.rows_dropped, **of.rows_changed}.items()]
    titles = ("source", "rows", "without image", "turns", "without question", "repeated", "drawn")
    print_table(TextTable(titles, tuple(rows), frozenset(range(1, len(titles))), tuple(notes)))


def negatives(
    positives: Annotated[str, typer.Option(help="FILE.jsonl of mmeval tune positives")],
    images: Annotated[str, typer.Option(help="Folder that the image names of the positives start from")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model to bootstrap from: hf:PATH_OR_ID, mini ...")],
    out: Annotated[str, typer.Option(help="Preference file to write; FILE.report.json and its store lie beside it")],
    model_option: Annotated[Texts | None, typer.Option("-M", help="KEY=VALUE for the model, as in mmeval run")] = None,
    how: Annotated[
        str,
        typer.Option(
            help="weakened (noise on the image), injected (errors put into the annotation), self (as it is), contrast "
            "(the released script's decoding), comma-separated"
        ),
    ] = "weakened,injected",
    weaken: Annotated[
        str,
        typer.Option(help="Noise of weakened and contrast, as -M weaken= of mmeval run: features:STEP, pixels:STEP"),
    ] = "features:800:scale=std",
    contrast: Annotated[str, typer.Option(help="ALPHA:BETA of contrast")] = "1:0.2",
    temperature: Annotated[
        float | None, typer.Option(help="Of answers with the image [weakened, contrast .2; self .5]")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Of every answer", min=1)] = 1024,
    samples: Annotated[int, typer.Option(help="Answers to each prompt and kind", min=1)] = 1,
    injector: Annotated[
        str, typer.Option(help="Who injects errors: backbone (the model's own), openai:NAME, hf:PATH ...")
    ] = "backbone",
    prompt: Annotated[str, typer.Option(help="Of the injector: paper, description or examples")] = "paper",
    form: Annotated[str, typer.Option("--format", help="bpo (the released form) or trl")] = "bpo",
    seed: Annotated[int, typer.Option(help="Of the run; each prompt's own seed derives from it")] = 0,
    store: Annotated[str, typer.Option(help="Response store [OUT.store.sqlite]")] = "",
    synonyms: Annotated[str, typer.Option(help="Table of objects for the report [built-in]")] = "",
    max_errors: Annotated[int, typer.Option(help="Failed answers above which to exit with 4", min=0)] = 0,
) -> int:
    """Bootstrap negatives from the model and pair them with the positives. Answers are kept: a run can be resumed."""
    from ..tuning.negatives import Plan
    from ..tuning.preferences import Order, losses, write_negatives
    from .progress import ConsoleReporter

    kinds: Any = tuple(split_names([how]))
    plan = Plan(kinds, weaken, contrast, temperature, max_new_tokens, samples, injector, prompt, seed)
    order = Order(
        Path(positives),
        Path(images),
        model,
        Path(out),
        pairs_of_options(model_option or [], "-M"),
        plan,
        _form(form),
        Path(store) if store else None,
        Path(synonyms) if synonyms else None,
    )
    reporter = ConsoleReporter()
    try:
        outcome = write_negatives(order, reporter)
    finally:
        reporter.end()
    print("\n".join(losses(outcome.made)))
    if outcome.pairs:
        _print_quality(outcome.figures)
        print(f"pairs   {len(outcome.pairs):,} in {out}   report  {outcome.report}")
    if outcome.errors > max_errors:
        print(f"mmeval: {outcome.errors} answers failed; the same command asks for them again", file=sys.stderr)
        return EXIT_TOO_MANY_ERRORS
    if not outcome.pairs:
        raise BadInput(f"no pair is left and {out} was not written; {outcome.report} says why")
    return EXIT_OK


def quality(
    pairs: Annotated[str, typer.Argument(metavar="FILE", help="Preference file in any form")],
    synonyms: Annotated[str, typer.Option(help="Table of objects [built-in]")] = "",
    json_to: Annotated[str, typer.Option("--json", help="All figures as JSON: FILE, or - for standard output")] = "",
) -> int:
    """Show what the pairs of a preference file are like: lengths, overlap, yes and no, objects, counts by source."""
    from ..tuning.pairs import read_pairs
    from ..tuning.preferences import object_finder
    from ..tuning.quality import quality as figures_of

    find = object_finder(Path(synonyms) if synonyms else None)
    figures = figures_of(read_pairs(Path(pairs)), find)
    if json_to:
        write_json(json_to, figures)
    if json_to != "-":
        _print_quality(figures)
    return EXIT_OK


def _form(given: str) -> Any:
    from ..tuning.pairs import FORMS

    if given not in FORMS:
        raise BadInput(f"--format {given}: unknown{did_you_mean(given, FORMS)}; known: {', '.join(FORMS)}")
    return given


def _print_quality(figures: Mapping[str, Mapping[str, Any]]) -> None:
    from ..tables import TextTable
    from ..tuning.quality import COLUMNS, NOTES, lines
    from .table import print_table

    whole = list(figures.values())[-1]
    sources = ", ".join(f"{name or 'unnamed'} {count:,}" for name, count in whole["sources"].items())
    notes = (*NOTES, f"pairs by source: {sources}")
    print_table(TextTable(COLUMNS, tuple(lines(figures)), frozenset(range(1, len(COLUMNS))), notes))
