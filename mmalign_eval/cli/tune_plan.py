"""`mmeval tune recipes` and `mmeval tune plan`: what is on offer, and what it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .files import STDOUT, write_json

if TYPE_CHECKING:
    from ..tables import TextTable
    from ..tuning.config import Recipe
    from ..tuning.plan import StagePlan

Json = Annotated[str, typer.Option("--json", metavar="FILE", help="FILE or -: everything as one JSON object.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value: tune.lr=1e-5.")
]


def recipes(
    name: Annotated[str, typer.Argument(help="A recipe, or a YAML file: its values, with where each comes from.")] = "",
    json_to: Json = "",
) -> None:
    """List the packaged recipes, or show one with its sources."""
    from ..tuning.config import load_recipe, recipe_names
    from .table import print_table

    chosen = [load_recipe(given) for given in ([name] if name else recipe_names())]
    if json_to != STDOUT:
        print_table(_values(chosen[0]) if name else _list(chosen))
    if json_to:
        found = [recipe.model_dump(mode="json") for recipe in chosen]
        write_json(json_to, found[0] if name else {"recipes": found})


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe, or a YAML file.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs, a process each.")] = 1,
    samples: Annotated[int, typer.Option(min=0, metavar="N", help="Rows of your data; else the paper's.")] = 0,
    length: Annotated[
        int, typer.Option(min=0, metavar="TOKENS", help="Of a row, image included; else the most the recipe takes.")
    ] = 0,
    changes: Changes = None,
    json_to: Json = "",
) -> None:
    """Parameters, steps, tokens and memory per GPU of a recipe, before anything is loaded."""
    from ..tuning import plan as planning
    from ..tuning.config import load_recipe
    from .names import pairs_of_options
    from .table import print_table

    chosen = load_recipe(recipe, pairs_of_options(changes or [], "--set"))
    stages = planning.plan(chosen, gpus, samples, length)
    if json_to != STDOUT:
        print_table(_plan(chosen, stages, gpus, given_length=bool(length)))
    if json_to:
        made = [stage.as_json() for stage in stages]
        write_json(json_to, {"recipe": chosen.model_dump(mode="json"), "gpus": gpus, "stages": made})


def _list(found: list[Recipe]) -> TextTable:
    from ..tables import TextTable

    rows = tuple((recipe.name, recipe.method, recipe.about) for recipe in found)
    return TextTable(("recipe", "method", "about"), rows, notes=("mmeval tune recipes NAME: its values and sources",))


def _values(recipe: Recipe) -> TextTable:
    from ..tables import TextTable
    from ..tuning.config import leaves

    content = recipe.model_dump(mode="json", exclude={"name", "about", "sources"}, exclude_none=True)
    rows = []
    for key in leaves(content):
        part, _, last = key.partition(".")
        holder = getattr(recipe, part) if last else recipe
        value = content[part][last] if last else content[part]
        told = recipe.sources.get(key) or recipe.sources.get(part, "")
        rows.append((key, _said(value), told if (last or part) in holder.model_fields_set else "default"))
    return TextTable(("key", "value", "source"), tuple(rows), notes=(f"{recipe.name}: {recipe.about}",))


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plan(recipe: Recipe, stages: list[StagePlan], gpus: int, given_length: bool) -> TextTable:
    """One column a stage, one row a fact."""
    from ..tables import TextTable

    def counted(number: int) -> str:
        return f"{number:,}" if number else "unknown: give --samples"

    facts: list[tuple[str, list[str]]] = [
        ("trained parameters", [f"{stage.trained:,}" for stage in stages]),
        ("all parameters", [f"{stage.parameters:,}" for stage in stages]),
        ("samples", [counted(stage.samples) if stage.samples or not stage.steps else "-" for stage in stages]),
        ("steps an epoch", [f"{stage.steps_per_epoch:,}" if stage.steps_per_epoch else "-" for stage in stages]),
        ("steps", [counted(stage.steps) for stage in stages]),
        ("accumulation", [str(stage.accumulation) for stage in stages]),
        ("tokens a sample", [f"{stage.length:,}" for stage in stages]),
        ("tokens", [counted(stage.tokens) for stage in stages]),
        ("precision", [stage.precision for stage in stages]),
    ]
    for way in ("ddp", "fsdp") if gpus > 1 else ("ddp",):
        title = f"a GPU of {gpus}, {'DDP' if way == 'ddp' else 'FSDP2'}" if gpus > 1 else "on one GPU"
        facts += _memory(title, stages, way)
    names = {"pretrain": "stage 1 (projector)", "tune": recipe.method}
    rows = tuple((fact, *values) for fact, values in facts)
    notes = [f"{recipe.name}: {recipe.about}", "memory at a step's fullest moment; docs/tuning.md says what is counted"]
    if not given_length:
        notes.append("samples are taken to be as long as the recipe allows: --length gives your data's mean")
    columns = ("", *(names[stage.name] for stage in stages))
    return TextTable(columns, rows, right=frozenset(range(1, len(columns))), notes=tuple(notes))


def _memory(title: str, stages: list[StagePlan], way: str) -> list[tuple[str, list[str]]]:
    from ..tuning.memory import SHARES
    from ..tuning.plan import GIB

    kept = [getattr(stage, way) for stage in stages]
    lines = [(f"memory {title}", [f"{one.total / GIB:.2f} GiB" for one in kept])]
    lines += [(f"  {share}", [f"{getattr(one, share) / GIB:.2f}" for one in kept]) for share in SHARES]
    return [*lines, ("  fullest at", [one.moment for one in kept])]
