"""The walls of docs/design.md, read from the imports of every module; nothing is run but the last
tests' subprocesses.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
LIGHT = ("data", "calculators", "prompts", "parsing", "tasks", "verify", "process_audit", "report", "view", "cli")
HEAVY = {"torch", "transformers", "peft", "safetensors", "trl", "accelerate", "tokenizers"}
EVERY_OTHER_ROOM = (
    *(
        "data",
        "calculators",
        "prompts",
        "parsing",
        "tasks",
        "verify",
        "process_audit",
        "engines",
        "stages",
        "predict",
        "export",
    ),
    *("cluster", "report", "view", "runs", "cli"),
)
ABOVE = ("engines", "stages", "predict", "export", "cluster", "report", "view", "runs", "cli")

# What a room may not know, neither itself nor through what it imports.
WALLS = {
    "types": ("config", "rl", *EVERY_OTHER_ROOM),
    "world": ("config", "rl", *EVERY_OTHER_ROOM),
    "rl": EVERY_OTHER_ROOM,
    "parsing": ("tasks", "data", "verify", "process_audit", *ABOVE),
    "calculators": ("prompts", "tasks", "verify", "process_audit", *ABOVE),
    "tasks": ("verify", "process_audit", *ABOVE),
    "verify": ("process_audit", *ABOVE),
    "process_audit": ABOVE,
    "data": ("prompts", *ABOVE),
    "prompts": ABOVE,
    "engines": ("stages", "predict", "export", "cluster", "report", "view", "cli"),
    "runs": ("engines", "stages", "predict", "export", "cluster", "report", "view", "cli"),
    "stages": ("predict", "export", "cluster", "report", "view", "cli"),
    "predict": ("export", "cluster", "report", "view", "cli"),
    "export": ("predict", "cluster", "report", "view", "cli"),
    "cluster": ("export", "report", "view", "cli"),
    "report": ("engines", "stages", "predict", "export", "cluster", "view", "cli"),
    "view": ("engines", "stages", "predict", "export", "cluster", "cli"),
}
# Packages whose files import each other in no circle, imports for type annotations included.
WITHOUT_CIRCLES = ("ehrmind",)
# Rooms the command line reaches only through another room's verb.
NO_LOGIC_IN_CLI = ("rl", "engines", "prompts", "tasks")
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = (
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
)
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "sympy",
    "requests",
    "urllib",
    "httpx",
    "httpx2",
    "aiohttp",
    "smtplib",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def for_types_only(module: str) -> set[int]:
    """Imports under `if TYPE_CHECKING:` are not knowledge at run time."""
    blocks = [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    return {id(child) for block in blocks for child in ast.walk(block)}


@cache
def imported(module: str, *, for_types: bool = False) -> frozenset[str]:
    """Every module named by an import anywhere in this one, functions included, as far as it can be
    resolved."""
    found: set[str] = set()
    skipped = set() if for_types else for_types_only(module)
    for node in ast.walk(tree(module)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return frozenset(found)


def reached(module: str) -> Iterator[tuple[str, str]]:
    """Our modules that `module` knows, directly or through others, each with the one that imports
    it."""
    waiting, seen = [module], {module}
    while waiting:
        here = waiting.pop()
        for name in imported(here):
            if name in MODULES and name not in seen:
                seen.add(name)
                waiting.append(name)
                yield name, here


def circle_through(module: str, rooms: tuple[str, ...]) -> list[str]:
    """Finds the shortest chain of imports within the rooms from a module back to itself, or []."""
    waiting, seen = [[module]], {module}
    while waiting:
        chain = waiting.pop(0)
        for name in sorted(imported(chain[-1], for_types=True)):
            if name == module:
                return [*chain, module]
            if name in MODULES and name not in seen and any(f"{name}.".startswith(f"{room}.") for room in rooms):
                seen.add(name)
                waiting.append([*chain, name])
    return []


def is_in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"ehrmind.{room}.")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_knows_a_room_behind_its_wall(module: str) -> None:
    for room, walled in WALLS.items():
        if not is_in(module, room):
            continue
        for name, through in reached(module):
            behind = [other for other in walled if is_in(name, other)]
            assert not behind, (
                f"{module} is in {room} and knows {name} (imported by {through}), which the design forbids"
            )


@pytest.mark.parametrize("room", WITHOUT_CIRCLES)
def test_files_import_each_other_in_no_circle(room: str) -> None:
    inside = [module for module in MODULES if f"{module}.".startswith(f"{room}.")]
    assert inside, f"there is no room {room}; mend the list"
    for module in inside:
        circle = circle_through(module, WITHOUT_CIRCLES)
        assert not circle, f"{' imports '.join(circle)}: a circle; put what both need below them"


def test_the_command_line_reaches_rooms_through_their_verbs() -> None:
    for module in MODULES:
        if is_in(module, "cli"):
            known = [name for name in imported(module) for room in NO_LOGIC_IN_CLI if is_in(name, room)]
            assert not known, f"{module} imports {known}; logic belongs in a room, not in the command line"


def test_the_walls_name_rooms_that_exist() -> None:
    for room in WALLS:
        assert any(is_in(module, room) for module in MODULES), f"there is no room {room}; mend the table"


@pytest.mark.parametrize("module", [module for module in MODULES if any(is_in(module, room) for room in LIGHT)])
def test_a_light_room_never_names_a_training_library(module: str) -> None:
    heavy = {name for name in imported(module) if name.partition(".")[0] in HEAVY}
    if module == "ehrmind.cli.doctor":
        heavy -= {"torch"}  # asked only where it is installed
    assert not heavy


@pytest.mark.parametrize("module", MODULES)
def test_nothing_executes_text_or_unpickles_or_calls_out(module: str) -> None:
    assert not {name for name in imported(module) if name.partition(".")[0] in FORBIDDEN_MODULES}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module}, line {node.lineno}: a bare except"
        if not isinstance(node, ast.Call):
            continue
        where = f"{module}, line {node.lineno}: {ast.unparse(node.func)}"
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_NAMES, where
        assert ast.unparse(node.func) not in FORBIDDEN_CALLS, where
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert (keyword.arg, value) not in {("shell", True), ("allow_pickle", True), ("trust_remote_code", True)}, (
                where
            )


def test_one_module_asks_endpoints_and_no_other_knows_the_client() -> None:
    clients = [module for module in MODULES if any(name.partition(".")[0] == "openai" for name in imported(module))]
    assert clients == ["ehrmind.engines.endpoint"]


def test_one_module_imports_by_a_name_that_is_given_to_it() -> None:
    """The functions that a recipe names under `reward.extra`."""
    importing = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "import_module"
    }
    assert importing == {"ehrmind.stages.rlvr.extra_rewards"}


def test_one_room_knows_ray() -> None:
    known = [module for module in MODULES if any(name.partition(".")[0] == "ray" for name in imported(module))]
    assert known and all(is_in(module, "cluster") for module in known)


def check_runs(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_light_module_imports_where_torch_is_not_installed() -> None:
    light = [module for module in MODULES if any(is_in(module, room) for room in LIGHT)] + [
        "ehrmind.config",
        "ehrmind.runs",
        "ehrmind.types",
    ]
    blocked = dict.fromkeys([*HEAVY, "huggingface_hub"])
    check_runs(
        f"import sys, importlib; sys.modules.update({blocked!r}); [importlib.import_module(name) for name in {light!r}]"
    )


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "ehrmind.cli",
            {
                "torch",
                "transformers",
                "polars",
                "pyarrow",
                "numpy",
                "scipy",
                "pint",
                "pydantic",
                "yaml",
                "huggingface_hub",
            },
        ),
        ("ehrmind.config", {"torch", "transformers", "polars", "pyarrow", "pint", "huggingface_hub"}),
        ("ehrmind.engines.endpoint", {"torch", "transformers", "openai", "httpx", "httpx2"}),
        ("ehrmind.verify.judge", {"torch", "transformers", "polars", "pyarrow", "pint"}),
        ("ehrmind.cluster.run", {"ray", "fsspec"}),
        ("ehrmind.verify.trainer_rewards", {"torch", "transformers", "polars", "pyarrow", "pint"}),
    ],
)
def test_importing_loads_nothing_heavy(module: str, unwanted: set[str]) -> None:
    loaded = check_runs(f"import sys, {module}; print(*sys.modules)").split()
    assert not unwanted & set(loaded)
