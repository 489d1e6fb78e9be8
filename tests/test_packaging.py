"""What is shipped: metadata, pins, the wheel's content, and a run from the wheel outside the repository."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from .support import REPO

SHIPPED = [tree for tree in ("mmalign_eval", "tasks", "tuning", "leaderboards") if (REPO / tree).is_dir()]
METADATA = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
MEASURED = re.compile(r"(mmalign_eval/)?leaderboards/(results/|[^/]*\.(md|svg)$)")  # results, and pages of them
NOT_PINNED = {"setuptools"}  # what builds packages is left to the environment
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for line in (REPO / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, pinned = line.partition("==")
            assert canonicalize_name(name) not in found, f"{name} is pinned twice"
            found[canonicalize_name(name)] = Version(pinned)
    return found


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(text) for text in PROJECT["dependencies"] + extras["test"] + extras["dev"]]


def shipped_files() -> set[str]:
    """Every file of the four trees but what the leaderboards hold of our own, under its name in the package."""
    found = set()
    for tree in SHIPPED:
        for path in (REPO / tree).rglob("*"):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(REPO).parts)
            name = path.relative_to(REPO).as_posix()
            if path.is_file() and not hidden and not MEASURED.match(name):
                found.add(name if tree == "mmalign_eval" else f"mmalign_eval/{name}")
    return found


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")} | env
    return subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_ranges_admit_the_pins() -> None:
    pinned = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        if name in NOT_PINNED:
            continue
        assert name in pinned, f"{name} is declared, but constraints.txt does not pin it"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} refuses the pin {pinned[name]}"


def test_pins_are_for_any_machine() -> None:
    pinned = pins()
    assert all(v.local is None for v in pinned.values())  # torch==2.13.0+cpu would install on one kind of machine only
    assert not {*NOT_PINNED, "torchvision", canonicalize_name(PROJECT["name"])} & set(pinned)
    assert Version("3.11") in SpecifierSet(PROJECT["requires-python"])
    assert Version("3.10") not in SpecifierSet(PROJECT["requires-python"])


def test_everything_a_test_environment_installs_is_pinned() -> None:
    pinned, seen = pins(), set()
    queue = [(r.name, r.extras) for r in declared()]
    while queue:
        raw, extras = queue.pop()
        name = canonicalize_name(raw)
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        try:
            version(name)
        except PackageNotFoundError:
            continue  # for another platform
        accelerator = name.startswith(("nvidia-", "cuda-", "triton"))  # torch pins these itself
        assert name in pinned or name in NOT_PINNED or accelerator, f"constraints.txt lacks {name}"
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *extras)):
                queue.append((needed.name, needed.extras))
    assert len(seen) > 50


def test_nothing_imports_the_mapped_folders_under_bare_names() -> None:
    """`import tasks` works in the repository's root only, and would be a second copy of the module."""
    bare, read = {"tasks", "tuning", "leaderboards"}, 0
    for tree in (*SHIPPED, "tests", "benchmarks"):
        for path in (REPO / tree).rglob("*.py"):
            read += 1
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                else:
                    continue
                found = {name.split(".")[0] for name in names} & bare
                assert not found, f"{path}:{node.lineno}: import mmalign_eval.{found.pop()} instead"
    assert read > 50


def test_readme_points_at_what_is_there() -> None:
    readme, makefile = (REPO / "README.md").read_text(), (REPO / "Makefile").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (REPO / link).exists()] == []
    for target in re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"


@pytest.mark.parametrize("command", [("-m", "mmalign_eval", "--help"), ("mmeval", "--help")])
def test_help(command: tuple[str, ...], tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("mmeval")
    words = [script, *command[1:]] if command[0] == "mmeval" else [sys.executable, *command]
    shown = run(*words, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "run" in shown.stdout
    assert "tasks" in shown.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that what an earlier build left in the checkout can neither help nor harm."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for tree in SHIPPED:
        shutil.copytree(REPO / tree, source / tree, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in METADATA:
        shutil.copy(REPO / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    built = run(*pip, "-w", out, source, cwd=source)
    assert built.returncode == 0, built.stderr
    assert "absent" not in built.stderr  # setuptools' word for package data it takes for a package
    return next(out.glob("*.whl"))


def test_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert shipped_files() - names == set()
    for suffix in (".json", ".jpg", ".safetensors", "py.typed"):  # what the miniature cannot do without
        assert any(name.endswith(suffix) for name in names), f"no {suffix} in the wheel"


def test_wheel_holds_the_published_rows_and_nothing_measured(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if "/leaderboards/" in name]
    assert {"pages.yaml", "published/bpo.yaml", "published/sight_beyond_text.yaml"} <= {
        name.removeprefix("mmalign_eval/leaderboards/") for name in names
    }
    assert [name for name in names if MEASURED.match(name)] == []


def test_wheel_claims_one_name(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
    assert {name.split("/")[0] for name in archive.namelist()} == {"mmalign_eval", info}
    assert archive.read(f"{info}/top_level.txt").decode().split() == ["mmalign_eval"]
    assert any(name.startswith(f"{info}/licenses/") for name in archive.namelist())


def test_wheel_lists_the_same_tasks(wheel: Path, tmp_path: Path) -> None:
    """The wheel unpacked beside the outer environment's packages: cheap, and enough to see what is found in it."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    show = "import mmalign_eval; print(mmalign_eval.__file__, flush=True); import mmalign_eval.__main__"
    listed = run(sys.executable, "-c", show, "tasks", "list", cwd=tmp_path, PYTHONPATH=str(site))
    assert listed.returncode == 0, listed.stderr
    where, _, tasks = listed.stdout.partition("\n")
    assert where.startswith(str(site))
    assert tasks == run(sys.executable, "-m", "mmalign_eval", "tasks", "list", cwd=tmp_path).stdout


@pytest.mark.slow
def test_wheel_in_an_empty_environment_scores_the_miniature(wheel: Path, tmp_path: Path) -> None:
    venv, outside = tmp_path / "venv", tmp_path / "outside"
    outside.mkdir()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    installed = run(*pip, "-c", REPO / "constraints.txt", wheel, cwd=outside)
    assert installed.returncode == 0, installed.stderr

    bare = "import tasks"  # must not be there for others to trip over
    assert "ModuleNotFoundError" in run(venv / "bin" / "python", "-c", bare, cwd=outside).stderr

    done = run(venv / "bin" / "mmeval", "run", "--model", "mini", "--limit", "4", cwd=outside)
    assert done.returncode == 0, done.stderr
    for task in ("truthfulqa", "pope", "coco_caption"):
        assert re.search(rf"^{task}\S*\s+\S+.*\s\d", done.stdout, re.MULTILINE), done.stdout
    assert list((outside / "results" / "mini").glob("*.json"))
