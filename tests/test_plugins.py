"""Plugins from outside the package: the page that explains them, installed packages, and broken ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmalign_eval import registry
from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput
from mmalign_eval.registry import MODELS, TASKS, LazyRegistry

from .toy import PLUGIN, isolate_registry, make_toy

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "pandas")


def write_page(folder: Path) -> None:
    """Every file that the page shows, and the pictures that its data names."""
    text = PAGE.read_text(encoding="utf-8")
    for name, content in re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", text, re.M | re.S):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    for name in re.findall(r'"image": "(\S+?)"', text):
        Image.new("RGB", (24, 48), "black").save(folder / "data" / name)


def install(folder: Path, distribution: str, tasks: dict[str, str], models: dict[str, str]) -> None:
    """What an installer leaves of a package with these entry points."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = []
    for group, points in (("mmalign_eval.tasks", tasks), ("mmalign_eval.models", models)):
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def mmeval(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with packages from `path`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "mmalign_eval", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The page's files, and its modules as an installed package in `site`."""
    write_page(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    for name in ("lights.py", "always.py"):
        (site / name).write_text((tmp_path / name).read_text())
    install(site, "lights", {"lights": "lights"}, {"always": "always:open_model"})
    return tmp_path


def test_the_commands_of_the_page(place: Path) -> None:
    commands = re.search(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert commands
    said = []
    for line in commands[1].splitlines():
        program, *words = line.split()
        assert program == "mmeval"
        done = mmeval(*words, cwd=place)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    shown, checked, _ = said
    assert "Which light is on?" in shown
    assert "right     'It is red.'" in shown
    assert checked.count("passed") == 2  # both protocols
    result = json.loads((place / "results" / "answers" / "lights.json").read_text())
    # "Which light" does not match: red, green, red, red, of which the third should be yellow
    assert {name: metric["value"] for name, metric in result["metrics"].items()} == {
        "day/accuracy": 1.0,
        "night/accuracy": 0.5,
        "answered": 1.0,
    }


def test_an_installed_package_brings_a_task_and_a_model_kind(place: Path) -> None:
    site = place / "site"
    listed = mmeval("tasks", "list", "--json", cwd=place, path=site)
    found = json.loads(listed.stdout)
    row = next(row for row in found["tasks"] if row["name"] == "lights")
    assert row["origin"] == "lights=lights"
    assert not row["built_in"]
    assert row["about"].startswith("Colours of traffic lights")
    assert "lights" in found["groups"]["image"]
    assert "lights" not in found["groups"]["all"]
    run = ("run", "--tasks", "lights", "--data", "data", "--model", "always:red", "--model", "always:green")
    done = mmeval(*run, cwd=place, path=site)
    assert done.returncode == 0, done.stderr
    for colour, day, night in (("red", 0.5, 0.5), ("green", 0.5, 0.0)):
        metrics = json.loads((place / "results" / f"always-{colour}" / "lights.json").read_text())["metrics"]
        assert (metrics["day/accuracy"]["value"], metrics["night/accuracy"]["value"]) == (day, night)
    checked = mmeval("tasks", "check", "lights", "--data", "data", cwd=place, path=site)
    assert checked.returncode == 0, checked.stdout
    refused = mmeval(*run[:-4], "--model", "always:red,cas=upper", cwd=place, path=site)
    assert refused.returncode == 2
    assert "did you mean 'case'" in refused.stderr


def test_a_package_that_breaks_hurts_only_those_who_use_it(place: Path) -> None:
    site = place / "site"
    (site / "broken_task.py").write_text("import json\n\nimport no_such_module_anywhere\n")
    (site / "broken_model.py").write_text("import json\njson.loads('{')\n")
    install(site, "broken", {"dusk": "broken_task"}, {"dusk": "broken_model:open_model", "mini": "broken_model:other"})
    cause = f"No module named 'no_such_module_anywhere' ({site / 'broken_task.py'}:3)"
    listed = mmeval("tasks", "list", cwd=place, path=site)
    assert listed.returncode == 0
    assert f"did not load: broken_task=dusk: ModuleNotFoundError: {cause}" in listed.stdout
    shown = mmeval("tasks", "show", "dusk", cwd=place, path=site)
    assert shown.returncode == 2
    assert cause in shown.stderr
    assert "unknown" not in shown.stderr
    run = ("run", "--tasks", "lights", "--data", "data", "--out", "out", "--model")
    assert mmeval(*run, "always:red", cwd=place, path=site).returncode == 0
    broken = mmeval(*run, "dusk:x", cwd=place, path=site)
    assert broken.returncode == 2
    assert "model kind 'dusk' cannot be imported from broken_model: JSONDecodeError" in broken.stderr
    clash = mmeval(*run, "mini", cwd=place, path=site)
    assert clash.returncode == 2
    assert "model kind 'mini' is also defined by broken (broken_model:other)" in clash.stderr


def test_model_kinds_load_any_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value, dist = "again", "json:loads", None

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point])
    monkeypatch.setattr(registry, "MODELS", LazyRegistry("model kind", {}))
    registry.load_model_entry_points()
    assert registry.MODELS.get("again") is json.loads
    registry.load_model_entry_points()
    assert registry.MODELS.get("again") is json.loads
    assert "again" not in MODELS.names()


def test_listing_imports_nothing_heavy(place: Path) -> None:
    code = (
        "import sys; from mmalign_eval.cli.main import main;"
        "assert main(['tasks', 'list', '--include', 'lights.py']) == 0;"
        f"assert not set({HEAVY}) & set(sys.modules), set({HEAVY}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lights" in done.stdout


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("x = 1\nx +\n", "SyntaxError"),
        ("import json\njson.loads('{')\n", "JSONDecodeError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("x = 1\n", "defines no task"),
    ],
)
def test_an_included_file_that_does_not_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cause: str
) -> None:
    isolate_registry(monkeypatch)
    file = tmp_path / "broken.py"
    file.write_text(content)
    with pytest.raises(BadInput, match=re.escape(cause)) as caught:
        TASKS.include(str(file))
    if "defines" not in cause:
        line = content.count("\n")
        assert f"({file}:{line})" in str(caught.value)  # the plugin's own line, not the library's


def test_an_included_file_may_come_twice_and_by_two_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_registry(monkeypatch)
    plugin, _ = make_toy(tmp_path)
    TASKS.include(str(plugin))
    first = TASKS.get("toy")
    plugin.write_text(PLUGIN.replace("Yes if even.", "Changed."))
    TASKS.include(os.path.relpath(plugin))
    assert TASKS.get("toy") is not first
    assert TASKS.get("toy").__doc__ == "Changed."
    other = tmp_path / "elsewhere" / plugin.name
    other.parent.mkdir()
    other.write_text(PLUGIN)
    with pytest.raises(BadInput, match=r"task 'toy' is defined by .*toy_task.py and by .*elsewhere.*: rename one"):
        TASKS.include(str(other))


def test_a_built_in_task_keeps_its_name_and_may_be_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_registry(monkeypatch)
    pope = TASKS.get("pope")
    thief = tmp_path / "thief.py"
    thief.write_text(PLUGIN.replace('"toy",', '"pope",'))
    with pytest.raises(BadInput, match="task 'pope' is defined by mmalign_eval.tasks.pope and by"):
        TASKS.include(str(thief))
    TASKS.include(sys.modules[pope.__module__].__file__ or "")
    assert TASKS.get("pope") is pope


def test_groups_and_globs_do_not_leave_a_broken_task_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_registry(monkeypatch)
    TASKS.failures["mmalign_eval.tasks.dusk"] = "ImportError: no light (dusk.py:3)"
    for pattern in ("all", "image"):
        with pytest.raises(BadInput, match="did not load: ImportError: no light"):
            TASKS.resolve([pattern])
    with pytest.raises(BadInput, match="no light"):
        TASKS.resolve(["dus*"])
    with pytest.raises(BadInput, match="task 'dusk' did not load from mmalign_eval.tasks.dusk: ImportError"):
        TASKS.resolve(["dusk"])
    with pytest.raises(BadInput, match="no task 'dawn' among those that loaded.*no light"):
        TASKS.resolve(["dawn"])
    assert TASKS.resolve(["pope"]) == ["pope"]


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        ("return [mean(", "task toy cannot aggregate"),
        ('return {"correct"', "task toy cannot score sample s0"),
        ("yield Sample(", "task toy cannot read its data"),
    ],
)
def test_a_run_names_the_line_of_a_plugin_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], piece: str, says: str
) -> None:
    isolate_registry(monkeypatch)
    plugin, data = make_toy(tmp_path)
    text = plugin.read_text().replace(piece, f"1 / 0; {piece}")
    plugin.write_text(text)
    (tmp_path / "script.yaml").write_text("- text: yes\n")
    where = ["--include", str(plugin), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(["run", "--model", f"scripted:{tmp_path / 'script.yaml'}", "--tasks", "toy", *where]) == 2
    line = text[: text.index("1 / 0")].count("\n") + 1
    said = capsys.readouterr().err
    assert says in said
    assert f"ZeroDivisionError: division by zero ({plugin}:{line})" in said
