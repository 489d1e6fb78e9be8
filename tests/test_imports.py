"""The house rules that imports can break: direction, no circle, nothing heavy, no benchmark named in the engine."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = "mmalign_eval"
MAPPED = ("tasks", "tuning", "leaderboards")  # stand at the top level, are imported as mmalign_eval.<name>

# From the top down; a package's name stands for everything in it. Imports run downwards or within a layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__", "cli"),
    (
        *("evaluate", "answers", "rescore", "overlap", "compare", "frames", "leaderboard", "report", "tuning", "lab"),
        *("miniature", "check", "conducts", "result_tables"),
    ),
    (
        *("lmeval", "engine", "plan", "provenance", "results", "result_shape", "run_stats", "sums_file", "runs"),
        *("scores", "tables", "scoring", "judges"),
    ),
    ("task", "derive", "models", "data", "store", "metrics", "stats", "tasks"),
    # leaderboards: data only
    (
        *("registry", "requests", "roles", "images", "image_ahead", "image_workers", "errors", "files", "phases"),
        *("templates", "leaderboards", "cycles"),
    ),
)
# The public API: its names load on first use, from any layer, and no module of the package goes through it.
PUBLIC = TOP

# (importing module, imported module): why it may run upwards.
EXCEPTIONS = {
    (
        f"{TOP}.data.source",
        f"{TOP}.miniature",
    ): "where the embedded data lies is asked only once `--data mini` is given",
}

TASKS_MAY_IMPORT = {"task", "tasks", "roles", "requests", "metrics", "data", "errors"}
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "pandas", "peft", "openai")

# Names of the benchmarks and of what they are also called, beside the names that tasks/ declares.
BENCHMARKS = {
    *("truthfulqa", "ethics", "mmlu", "gsm8k", "mathqa", "squad", "squadv2", "boolq", "mme", "pope", "vqav2", "vqa"),
    *("coco_caption", "flickr30k", "coco_c", "mmvet", "mm_vet", "llava_bench", "halbench", "object_halbench"),
}


def modules() -> dict[str, Path]:
    """Every module of the package, by its importable name."""
    found = {}
    for folder, prefix in [(TOP, TOP), *((name, f"{TOP}.{name}") for name in MAPPED)]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = inside[:-1] if inside[-1] == "__init__" else inside
            found[".".join([prefix, *parts])] = path
    return found


MODULES = modules()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run, at module level or in functions: those under TYPE_CHECKING do not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from statements(other)
        else:
            yield from statements(child)


def imported(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports; a submodule where `from package import submodule` names one."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    out: set[str] = set()
    for statement in statements(tree(path)):
        if isinstance(statement, ast.Import):
            out.update(alias.name for alias in statement.names)
            continue
        base = package[: len(package) - statement.level + 1] if statement.level else []
        origin = ".".join([*base, *([statement.module] if statement.module else [])])
        for alias in statement.names:
            out.add(f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in MODULES else origin)
    return out


IMPORTS = {name: imported(name, path) for name, path in MODULES.items()}


def own(name: str) -> set[str]:
    """Modules of this package that a module imports."""
    return {target for target in IMPORTS[name] if target in MODULES}


def room(name: str) -> str:
    return name.split(".")[1]


def layer(name: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room(name) in rooms)


def test_every_module_has_a_layer() -> None:
    placed = [name for rooms in LAYERS for name in rooms]
    assert len(placed) == len(set(placed))
    assert {room(name) for name in MODULES if name != PUBLIC} - set(placed) == set(), "give the new room a layer here"


def test_imports_run_downwards() -> None:
    upwards = {
        (name, target)
        for name in MODULES
        if name != PUBLIC
        for target in own(name)
        if target == PUBLIC or layer(target) < layer(name)
    }
    assert upwards - set(EXCEPTIONS) == set()
    assert set(EXCEPTIONS) - upwards == set(), "an exception that nothing needs"


def test_there_is_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        targets = {t for t in own(name) if (name, t) not in EXCEPTIONS}
        # importing a.b.c runs a and a.b first, unless they are what is being imported
        above = {".".join(t.split(".")[:n]) for t in targets for n in range(2, t.count(".") + 1)}
        graph[name] = targets | {a for a in above if a in MODULES and not f"{name}.".startswith(f"{a}.")}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"circle of imports: {' <- '.join(error.args[1])}")


def test_tasks_import_only_what_a_task_needs() -> None:
    wrong = []
    for name in MODULES:
        if not f"{name}.".startswith(f"{TOP}.tasks."):
            continue
        for target in IMPORTS[name]:
            parts = target.split(".")
            if parts[0] == TOP:
                fine = len(parts) > 1 and parts[1] in TASKS_MAY_IMPORT
            else:
                fine = parts[0] in sys.stdlib_module_names or parts[0] == "numpy"
            if not fine:
                wrong.append((name, target))
    assert wrong == []


def test_a_model_never_sees_a_task() -> None:
    wrong = [
        (name, target)
        for name in MODULES
        if f"{name}.".startswith(f"{TOP}.models.")
        for target in own(name)
        if room(target) in ("task", "tasks")
    ]
    assert wrong == []


def python_files() -> list[Path]:
    folders = (TOP, *MAPPED, "tests", "benchmarks", "docs")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def bare_names(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def test_nothing_imports_the_mapped_folders_under_bare_names() -> None:
    """From the repository's root `import tasks` would work too, and make a second registry."""
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in python_files()
        for name in bare_names(tree(path))
        if name.split(".")[0] in MAPPED
    ]
    assert wrong == []


def task_names() -> set[str]:
    """Names given to `@task` in tasks/."""
    return {
        node.args[0].value
        for path in (ROOT / "tasks").rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "task" and node.args
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


def words(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every identifier and every string of a module, lower case, `CamelCase` as `camel_case`."""
    for node in ast.walk(module):
        found = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "module", "asname")]
        if isinstance(node, ast.Constant):
            found.append(node.value)
        for text in found:
            if isinstance(text, str):
                yield getattr(node, "lineno", 0), re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()


def test_the_engine_names_no_benchmark() -> None:
    declared = task_names()
    assert "pope" in declared, "the test does not see the tasks"
    names = "|".join(sorted(BENCHMARKS | declared, key=len, reverse=True))
    pattern = re.compile(rf"(?<![a-z0-9])(?:{names})(?![a-z0-9])")
    rooms = ("models", "stats", "leaderboard", "report")
    files = [*(ROOT / TOP).glob("*.py"), *(path for name in rooms for path in (ROOT / TOP / name).rglob("*.py"))]
    named = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}"
        for path in files
        for line, text in words(tree(path))
        if (match := pattern.search(text.removeprefix("metrics.chair")))  # a metric as well
    ]
    assert named == []


LIGHT = """
import json, sys
from mmalign_eval.cli.main import main
verbs = ("mm-ft", "mm-lora", "sft", "bpo", "positives", "negatives", "quality", "probe", "convert", "recipes", "plan")
tune = [["tune", "--help"], *(["tune", verb, "--help"] for verb in verbs), ["tune", "recipes", "mini-bpo"]]
codes = [main(arguments) for arguments in (["--help"], *tune, ["tasks", "list"])]
print(json.dumps({"codes": codes, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def test_help_and_the_task_list_load_nothing_heavy() -> None:
    ran = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False, cwd=ROOT / "tests")
    assert ran.returncode == 0, ran.stderr
    assert "Usage" in ran.stdout
    assert "pope" in ran.stdout
    last = json.loads(ran.stdout.splitlines()[-1])
    assert set(last["codes"]) == {0}
    assert [name for name in HEAVY if name in last["modules"]] == []
