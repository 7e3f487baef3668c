"""The rules of the house, held by reading the source: who may import whom, and what no file may do.

A rule is a function of a `Project` (the parsed files under a root) that returns one line for each breach. The
project itself must give none; small trees made to break each rule must give exactly the lines stated.
A new room is placed in FLOORS; a new registry in REGISTRIES.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("recipe", "images", "weights", "distributed", "devices", "sample"),
    ("model", "tasks", "tokenizers", "perception", "metrics"),
    ("data", "generate", "interop"),
    ("train", "evaluate"),
    (
        "schema",
        "pipeline",
        "steps",
        "stages",
        "estimate",
        "exchange",
        "stores",
        "study",
        "report",
        "playground",
        "server",
        "cli",
        "__main__",
    ),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
GROUND = "recipe"  # below even the rest of floor 0: it knows no schema, and configs are written in its words
APPLICATIONS = 4
IMPORT_SIBLINGS = ("pipeline", "steps", "study", "cli", "__main__")
REGISTRIES = ("SOURCES", "TASKS", "TOKENIZERS", "QUANTIZERS", "DISCRIMINATORS", "METRICS", "SENTENCES", "PROTOCOLS")
ALWAYS_INSTALLED = {*sys.stdlib_module_names, "torch", "numpy", "safetensors", "lvmlite"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """``from module import name``, or ``import module`` with name None. `lazy`: inside a function."""

    module: str
    name: str | None
    line: int
    lazy: bool
    typing: bool


@dataclass(frozen=True)
class Module:
    """One file. `name` is dotted, `path` relative to the root."""

    name: str
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports(self.tree, lazy=False, typing=False))

    @property
    def room(self) -> str:
        return room_of(self.name)

    @cached_property
    def bound(self) -> set[str]:
        """Names that another module may import from this one."""
        names: set[str] = set()
        left: list[ast.AST] = [self.tree]
        while left:
            for node in ast.iter_child_nodes(left.pop()):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    names.add(node.name)
                    continue
                if isinstance(node, ast.alias):
                    names.add(node.asname or node.name.partition(".")[0])
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
                left.append(node)
        return names

    def at(self, line: int) -> str:
        return f"{self.path}:{line}"

    def _imports(self, node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(a.name, None, child.lineno, lazy, typing) for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = self._absolute(child.module or "", child.level)
                yield from (Import(module, a.name, child.lineno, lazy, typing) for a in child.names)
            elif isinstance(child, ast.Call) and called(child).endswith(("import_module", "__import__")):
                first = child.args[0] if child.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield Import(first.value, None, child.lineno, lazy, typing)
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                yield from self._imports(ast.Module(child.body, []), lazy, typing=True)
                yield from self._imports(ast.Module(child.orelse, []), lazy, typing)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from self._imports(child, lazy or inside, typing)

    def _absolute(self, module: str, level: int) -> str:
        if not level:
            return module
        parts = self.name.split(".")
        package = parts if self.path.endswith("__init__.py") else parts[:-1]
        return ".".join([*package[: len(package) - level + 1], *filter(None, [module])])


class Project:
    """The files of ``lvmlite/`` under a root."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, Module] = {}
        for file in sorted((root / "lvmlite").rglob("*.py")):
            path = file.relative_to(root)
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            self.modules[name] = Module(name, path.as_posix(), file.read_text(encoding="utf-8"))

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def target(self, found: Import) -> str:
        """The module that an import loads."""
        inner = f"{found.module}.{found.name}"
        return inner if inner in self.modules else found.module

    def inner(self, module: Module) -> Iterator[tuple[Import, str]]:
        """Imports of the project's own modules, with their targets."""
        for found in module.imports:
            if found.module.partition(".")[0] == "lvmlite":
                yield found, self.target(found)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def called(call: ast.Call) -> str:
    return ast.unparse(call.func)


# --- the rules


def every_room_has_a_floor(project: Project) -> list[str]:
    rooms = {module.room: module.path for module in project if module.room}
    return [
        f"{path}: the room '{room}' has no floor; place it in FLOORS of tests/test_architecture.py"
        for room, path in rooms.items()
        if room not in FLOOR_OF
    ]


def imports_go_down(project: Project) -> list[str]:
    breaches = []
    for module in project:
        for found, target in project.inner(module):
            room = room_of(target)
            if not module.room or found.typing or room == module.room or room not in ("", *FLOOR_OF):
                continue
            here, there = FLOOR_OF.get(module.room, APPLICATIONS), FLOOR_OF.get(room, 0)
            line = f"{module.at(found.line)}: {module.room} (floor {here}) imports "
            siblings = here == there == APPLICATIONS and module.room in IMPORT_SIBLINGS
            if not room and found.name != "__version__" and here < APPLICATIONS:
                breaches.append(line + "lvmlite itself, which is open for __version__ only")
            elif room == "cli" and module.room != "__main__":
                breaches.append(line + "cli, which nothing but __main__ may")
            elif room and room != GROUND and there >= here and not siblings:
                breaches.append(line + f"{room} (floor {there}); only lower floors are open to it")
            elif module.room == GROUND:
                breaches.append(line + "what is above it")
    return breaches


def imports_exist(project: Project) -> list[str]:
    breaches = []
    for module in project:
        for found, target in project.inner(module):
            if target not in project.modules:
                breaches.append(f"{module.at(found.line)}: there is no module {target}")
            elif found.name not in (None, "*") and target == found.module:
                bound = project.modules[target].bound
                if found.name not in bound and "__getattr__" not in bound:
                    breaches.append(f"{module.at(found.line)}: there is no {found.name} in {target}")
    return list(dict.fromkeys(breaches))


def no_cycles(project: Project) -> list[str]:
    """Imports in functions count: a cycle put off is still a cycle. Those of `lvmlite` itself do not."""
    graph = {
        module.name: {
            target: found.line
            for found, target in project.inner(module)
            if not found.typing and target in project.modules and target not in ("lvmlite", module.name)
        }
        for module in project
        if module.name != "lvmlite"
    }
    breaches: list[str] = []
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = trail[trail.index(name) :]
            line = project.modules[cycle[-1]].at(graph[cycle[-1]][name])
            breaches.append(f"{line}: a cycle of imports: {' -> '.join([*cycle, name])}")
        elif name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return breaches


def tables(project: Project) -> Iterator[tuple[str, Module, ast.Dict]]:
    """(name, module, dict) of every registry table found."""
    for module in project:
        for node in module.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in REGISTRIES:
                    value = getattr(node, "value", None)
                    if isinstance(value, ast.Dict):
                        yield target.id, module, value


def entries_are_blind_to_their_table(project: Project) -> list[str]:
    breaches = []
    for table, holder, entries in tables(project):
        origin = {found.name: target for found, target in project.inner(holder) if found.name}
        names = [n.id for value in entries.values for n in ast.walk(value) if isinstance(n, ast.Name)]
        for name in sorted({origin[name] for name in names if name in origin} - {holder.name}):
            entry = project.modules[name]
            breaches += [
                f"{entry.at(found.line)}: {name} is listed in {table} and imports {holder.name}"
                for found, target in project.inner(entry)
                if target == holder.name
            ]
    return breaches


def optional_packages_are_imported_where_used(project: Project) -> list[str]:
    return [
        f"{module.at(found.line)}: {package} is imported at the top; move it into the function that needs it"
        for module in project
        for found in module.imports
        if (package := found.module.partition(".")[0]) not in ALWAYS_INSTALLED and not found.lazy and not found.typing
    ]


def no_drawers(project: Project) -> list[str]:
    return [
        f"{module.path}: '{part}' says nothing of what it holds; name it for that"
        for module in project
        for part in Path(module.path).with_suffix("").parts
        if part in DRAWERS
    ]


def files_are_short(project: Project) -> list[str]:
    return [
        f"{module.path}: {n} lines, more than {MAX_LINES}; split it by what it holds"
        for module in project
        if (n := len(module.text.splitlines())) > MAX_LINES
    ]


def nothing_is_unpickled_or_evaluated(project: Project) -> list[str]:
    breaches = []
    for module in project:
        for found in module.imports:
            if found.module.partition(".")[0] in UNPICKLERS:
                breaches.append(f"{module.at(found.line)}: imports {found.module}; nothing is ever unpickled")
            if (found.module, found.name) == ("torch", "load"):
                breaches.append(f"{module.at(found.line)}: write torch.load, so that it can be checked")
        for call in (node for node in ast.walk(module.tree) if isinstance(node, ast.Call)):
            name, given = called(call), {k.arg: ast.unparse(k.value) for k in call.keywords}
            if name in ("torch.load", "torch.serialization.load") and given.get("weights_only") != "True":
                breaches.append(f"{module.at(call.lineno)}: torch.load without weights_only=True")
            if given.get("allow_pickle", "False") != "False":
                breaches.append(f"{module.at(call.lineno)}: allow_pickle; nothing is ever unpickled")
            if name.removeprefix("builtins.") in ("eval", "exec"):
                breaches.append(f"{module.at(call.lineno)}: {name}() runs text as code")
    return breaches


Rule = Callable[[Project], list[str]]
RULES: tuple[Rule, ...] = (
    every_room_has_a_floor,
    imports_go_down,
    imports_exist,
    no_cycles,
    entries_are_blind_to_their_table,
    optional_packages_are_imported_where_used,
    no_drawers,
    files_are_short,
    nothing_is_unpickled_or_evaluated,
)


# --- the project


@pytest.mark.parametrize("rule", RULES)
def test_the_project_keeps(rule: Rule) -> None:
    breaches = rule(Project(ROOT))
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_registry_is_one_table_with_entries() -> None:
    found = [(name, bool(entries.keys)) for name, _, entries in tables(Project(ROOT))]
    assert sorted(found) == sorted((name, True) for name in REGISTRIES)


@pytest.mark.parametrize(
    "code",
    [
        "import lvmlite",
        "import runpy, sys; sys.argv = ['lvmlite', '--help']\n"
        "try: runpy.run_module('lvmlite', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code",
    ],
    ids=["import lvmlite", "python -m lvmlite --help"],
)
def test_a_light_start(code: str) -> None:
    heavy = "torch, numpy, matplotlib, PIL, av, transformers, omegaconf"
    code += f"\nimport sys; print('heavy:', *sorted(set('{heavy}'.split(', ')) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "heavy:"


# --- the rules bite

DOWN = "only lower floors are open to it"
CASES: list[tuple[Rule, dict[str, str], list[str]]] = [
    (
        every_room_has_a_floor,
        {"attic.py": ""},
        ["lvmlite/attic.py: the room 'attic' has no floor; place it in FLOORS of tests/test_architecture.py"],
    ),
    (
        imports_go_down,
        {
            "__init__.py": "from lvmlite.model import x",
            "sample.py": "",
            "recipe.py": "",
            "images.py": "from lvmlite.recipe import Range",
            "model/__init__.py": "import lvmlite.sample",
            "model/a.py": "from lvmlite.model import b\nfrom . import b\nfrom lvmlite import sample",
            "model/b.py": "from lvmlite import __version__",
            "data.py": "if TYPE_CHECKING:\n    from lvmlite.train import x",
        },
        [],
    ),
    (
        imports_go_down,
        {"sample.py": "import os\nimport lvmlite.model", "model.py": ""},
        [f"lvmlite/sample.py:2: sample (floor 0) imports model (floor 1); {DOWN}"],
    ),
    (
        imports_go_down,
        {"images/__init__.py": "", "images/a.py": "from .. import sample", "sample.py": ""},
        [f"lvmlite/images/a.py:1: images (floor 0) imports sample (floor 0); {DOWN}"],
    ),
    (
        imports_go_down,
        {"recipe.py": "from lvmlite import __version__\nfrom lvmlite.sample import x", "sample.py": "x = 1"},
        [
            "lvmlite/recipe.py:1: recipe (floor 0) imports what is above it",
            f"lvmlite/recipe.py:2: recipe (floor 0) imports sample (floor 0); {DOWN}",
        ],
    ),
    (
        imports_go_down,
        {"tasks.py": "def f():\n    from lvmlite.metrics import x", "metrics.py": "x = 1"},
        [f"lvmlite/tasks.py:2: tasks (floor 1) imports metrics (floor 1); {DOWN}"],
    ),
    (
        imports_go_down,
        {"train.py": "import importlib\nimportlib.import_module('lvmlite.evaluate.a')"},
        [f"lvmlite/train.py:2: train (floor 3) imports evaluate (floor 3); {DOWN}"],
    ),
    (
        imports_go_down,
        {"data.py": "if TYPE_CHECKING:\n    import lvmlite.train\nelse:\n    import lvmlite.report"},
        [f"lvmlite/data.py:4: data (floor 2) imports report (floor 4); {DOWN}"],
    ),
    (
        imports_go_down,
        {"data.py": "from lvmlite import load\nimport lvmlite"},
        [
            f"lvmlite/data.py:{n}: data (floor 2) imports lvmlite itself, which is open for __version__ only"
            for n in (1, 2)
        ],
    ),
    (
        imports_go_down,
        {
            "pipeline.py": "import lvmlite.report",
            "report.py": "import lvmlite.schema",
            "study.py": "import lvmlite.cli",
            "__main__.py": "import lvmlite.cli",
        },
        [
            f"lvmlite/report.py:1: report (floor 4) imports schema (floor 4); {DOWN}",
            "lvmlite/study.py:1: study (floor 4) imports cli, which nothing but __main__ may",
        ],
    ),
    (
        imports_exist,
        {
            "sample.py": "x: int = 1\nfor y in ():\n    z = gone\ndef f():\n    hidden = 1",
            "data.py": "from lvmlite.sample import f, x, z, gone, hidden\nfrom lvmlite.nowhere import a\n"
            "if typing.TYPE_CHECKING:\n    from lvmlite.sample import Lost",
        },
        [
            "lvmlite/data.py:1: there is no gone in lvmlite.sample",
            "lvmlite/data.py:1: there is no hidden in lvmlite.sample",
            "lvmlite/data.py:2: there is no module lvmlite.nowhere",
            "lvmlite/data.py:4: there is no Lost in lvmlite.sample",
        ],
    ),
    (
        no_cycles,
        {
            "data/a.py": "from lvmlite.data import b",
            "data/b.py": "from lvmlite.data.c import x",
            "data/c.py": "x = 1\ndef f():\n    import lvmlite.data.a",
        },
        [
            "lvmlite/data/c.py:3: a cycle of imports: "
            "lvmlite.data.a -> lvmlite.data.b -> lvmlite.data.c -> lvmlite.data.a"
        ],
    ),
    (
        no_cycles,
        {
            "__init__.py": "import lvmlite.data.a",
            "data/a.py": "import lvmlite.data.b\nfrom lvmlite import __version__",
            "data/b.py": "if TYPE_CHECKING:\n    import lvmlite.data.a",
        },
        [],
    ),
    (
        entries_are_blind_to_their_table,
        {
            "tasks/__init__.py": "from lvmlite.tasks.base import Task\n"
            "from lvmlite.tasks.edges import Edges\nTASKS: dict[str, type[Task]] = {'edges': Edges}",
            "tasks/base.py": "class Task: ...\ndef f():\n    from lvmlite.tasks import TASKS",
            "tasks/edges.py": "def f():\n    from lvmlite.tasks import TASKS\nclass Edges: ...",
        },
        ["lvmlite/tasks/edges.py:2: lvmlite.tasks.edges is listed in TASKS and imports lvmlite.tasks"],
    ),
    (
        entries_are_blind_to_their_table,
        {
            "data/sentences.py": "from lvmlite.data.pairs import Pairs, Config\nclass Single: ...\n"
            "SENTENCES = {'single': (Single, Single), 'pairs': (Config, Pairs)}",
            "data/pairs.py": "import lvmlite.data.sentences\nclass Pairs: ...\nclass Config: ...",
        },
        ["lvmlite/data/pairs.py:1: lvmlite.data.pairs is listed in SENTENCES and imports lvmlite.data.sentences"],
    ),
    (
        optional_packages_are_imported_where_used,
        {
            "images.py": "import os, torch\nfrom safetensors.torch import load_file\n"
            "if TYPE_CHECKING:\n    import av\ndef f():\n    import skimage\nclass A:\n    import av.video\n"
            "try:\n    from PIL import Image\nexcept ImportError: ..."
        },
        [
            f"lvmlite/images.py:{at} is imported at the top; move it into the function that needs it"
            for at in ("8: av", "10: PIL")
        ],
    ),
    (
        no_drawers,
        {"data/utils.py": "", "common/a.py": ""},
        [
            "lvmlite/common/a.py: 'common' says nothing of what it holds; name it for that",
            "lvmlite/data/utils.py: 'utils' says nothing of what it holds; name it for that",
        ],
    ),
    (
        files_are_short,
        {"images.py": "\n" * 400, "sample.py": "\n" * 401},
        ["lvmlite/sample.py: 401 lines, more than 400; split it by what it holds"],
    ),
    (
        nothing_is_unpickled_or_evaluated,
        {
            "weights.py": "import torch\ntorch.load(p, weights_only=True)\ntorch.load(p)\n"
            "torch.load(p, weights_only=False)\nfrom torch import load\ndef f():\n    import pickle\n"
            "np.load(p, allow_pickle=False)\nnp.load(p, allow_pickle=True)\nmodel.eval()\n"
            "eval('1')\nexec('1')\nfrom dill import loads"
        },
        [
            "lvmlite/weights.py:5: write torch.load, so that it can be checked",
            "lvmlite/weights.py:7: imports pickle; nothing is ever unpickled",
            "lvmlite/weights.py:13: imports dill; nothing is ever unpickled",
            "lvmlite/weights.py:3: torch.load without weights_only=True",
            "lvmlite/weights.py:4: torch.load without weights_only=True",
            "lvmlite/weights.py:9: allow_pickle; nothing is ever unpickled",
            "lvmlite/weights.py:11: eval() runs text as code",
            "lvmlite/weights.py:12: exec() runs text as code",
        ],
    ),
]


@pytest.mark.parametrize(("rule", "files", "expected"), CASES)
def test_a_rule_finds(tmp_path: Path, rule: Rule, files: dict[str, str], expected: list[str]) -> None:
    for name, text in ({"__init__.py": ""} | files).items():
        file = tmp_path / "lvmlite" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert rule(Project(tmp_path)) == expected


def test_every_rule_is_broken_somewhere() -> None:
    assert {rule for rule, _, expected in CASES if expected} == set(RULES)
