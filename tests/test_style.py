"""House rules that a program can check, each with sources that must and must not be flagged."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cascadenet", "inference", "sparse")
KERNELS = "_kernels.py"
FUNCTION_LINES = 90
FILE_LINES = 700

Function = ast.FunctionDef | ast.AsyncFunctionDef
Finding = tuple[int, str]


@dataclass(frozen=True)
class Module:
    """One source file: its path below the repository's root and its text."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def library() -> list[Module]:
    return [read(path) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def read(path: Path) -> Module:
    return Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


# What the rules look at


def imports(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """Line, dotted module and level of every import; ``from a import b`` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "", node.level
            for alias in node.names:
                yield node.lineno, f"{node.module or ''}.{alias.name}", node.level


def dotted(node: ast.AST) -> str:
    """``np.random.rand`` of the expression that says so, else an empty string."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def public(name: str) -> bool:
    return not name.startswith("_")


def public_functions(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Functions and methods a user can call by a public name, with the class of the latter."""
    for node in tree.body:
        if isinstance(node, Function) and public(node.name):
            yield node, None
        elif isinstance(node, ast.ClassDef) and public(node.name):
            for item in node.body:
                called = isinstance(item, Function) and item.name in ("__init__", "__call__")
                if called or (isinstance(item, Function) and public(item.name)):
                    yield item, node


def decorators(node: Function) -> set[str]:
    return {
        dotted(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list
    }


def inherited(tree: ast.Module, owner: ast.ClassDef, method: str) -> bool:
    """Whether a base of ``owner`` in the same file documents the method of that name."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for base in (classes[dotted(node)] for node in owner.bases if dotted(node) in classes):
        for item in base.body:
            if isinstance(item, Function) and item.name == method and ast.get_docstring(item):
                return True
        if inherited(tree, base, method):
            return True
    return False


# Rules: each yields the lines it objects to


def imports_are_absolute(module: Module) -> Iterator[Finding]:
    """``inference`` and ``sparse`` are packages of that name only inside cascadenet."""
    for line, name, level in imports(module.tree):
        if level or name.split(".")[0] in ("inference", "sparse"):
            yield line, f"import of {'.' * level}{name}; say cascadenet.{name}"


def randomness_is_passed_in(module: Module) -> Iterator[Finding]:
    """No state that outlives a call: generators come from a seed argument."""
    allowed = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM"}
    for line, name, _ in imports(module.tree):
        parts = name.split(".")
        if parts[0] == "random" or (parts[:2] == ["numpy", "random"] and set(parts[2:]) - allowed):
            yield line, f"import of {name}"
    for node in ast.walk(module.tree):
        parts = dotted(node).split(".")
        if parts[0] in ("np", "numpy") and parts[1:2] == ["random"] and set(parts[2:]) - allowed:
            yield node.lineno, f"{'.'.join(parts)} is global or legacy random state"


def nothing_is_printed(module: Module) -> Iterator[Finding]:
    """Only the command line prints."""
    if re.fullmatch(r"_?cli\w*\.py", module.name):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield node.lineno, "print in the library"


def public_names_have_docstrings(module: Module) -> Iterator[Finding]:
    """Modules, classes, functions, methods; an override may leave it to its base."""
    if not ast.get_docstring(module.tree):
        yield 1, "the module has no docstring"
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and public(node.name) and not ast.get_docstring(node):
            yield node.lineno, f"class {node.name} has no docstring"
    for node, owner in public_functions(module.tree):
        exempt = node.name.startswith("__") or decorators(node) & {"overload", "typing.overload"}
        if exempt or any(name.endswith(".setter") for name in decorators(node)):
            continue
        if owner is not None and inherited(module.tree, owner, node.name):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, f"{node.name} has no docstring"


def public_functions_are_annotated(module: Module) -> Iterator[Finding]:
    """Every argument and the result; compiled code and private modules are exempt."""
    if re.match(r"_(?!_)", module.name):
        return
    for node, owner in public_functions(module.tree):
        spec = node.args
        named = [*spec.posonlyargs, *spec.args]
        if owner is not None and "staticmethod" not in decorators(node):
            named = named[1:]
        stars = [item for item in (spec.vararg, spec.kwarg) if item]
        bare = [item.arg for item in [*named, *spec.kwonlyargs, *stars] if not item.annotation]
        if bare:
            yield node.lineno, f"{node.name}: no type for {', '.join(bare)}"
        if node.returns is None:
            yield node.lineno, f"{node.name}: no type for the result"


def numba_stays_in_kernel_files(module: Module) -> Iterator[Finding]:
    if module.name == KERNELS:
        return
    for line, name, _ in imports(module.tree):
        if name.split(".")[0] in ("numba", "llvmlite"):
            yield line, f"import of {name} outside {KERNELS}"


def kernel_files_stand_alone(module: Module) -> Iterator[Finding]:
    """A cached kernel does not notice that a callee in another file has changed."""
    if module.name != KERNELS:
        return
    for line, name, level in imports(module.tree):
        if level or name.split(".")[0] not in ("__future__", "math", "numba", "numpy"):
            yield line, f"import of {name} in a kernel file"


def kernels_are_compiled_by_one_policy(module: Module) -> Iterator[Finding]:
    """Every function of a kernel file is a ``@kernel`` or a ``@part``, which configure numba."""
    if module.name != KERNELS:
        return
    for node in module.tree.body:
        if not isinstance(node, Function):
            yield from ((n.lineno, f"numba.{n.attr}") for n in numba_uses(node))
        elif node.name not in ("kernel", "part"):
            if decorators(node) not in ({"kernel"}, {"part"}):
                yield node.lineno, f"{node.name} is not decorated with @kernel"
            yield from ((n.lineno, f"numba.{n.attr} outside kernel()") for n in numba_uses(node))


def numba_uses(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node.value) == "numba":
            if node.attr not in ("prange", "literal_unroll"):
                yield node


def arithmetic_is_exact(module: Module) -> Iterator[Finding]:
    """``fastmath`` reorders sums: results would differ from the interpreted ones."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg == "fastmath":
            yield node.value.lineno, "fastmath"


def nothing_is_unpickled(module: Module) -> Iterator[Finding]:
    """A file that is loaded must not be able to run code."""
    banned = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for line, name, _ in imports(module.tree):
        if name.split(".")[0] in banned:
            yield line, f"import of {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield node.value.lineno, "allow_pickle"
        if isinstance(node, ast.Attribute) and node.attr in ("read_pickle", "to_pickle"):
            yield node.lineno, node.attr


def functions_fit_on_a_screen(module: Module) -> Iterator[Finding]:
    """Docstrings count: one that does not fit is a page of prose in the wrong place."""
    for node in functions(module.tree):
        lines = node.end_lineno - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield node.lineno, f"{node.name} has {lines} lines, more than {FUNCTION_LINES}"


def files_have_one_idea(module: Module) -> Iterator[Finding]:
    lines = module.source.count("\n")
    if lines > FILE_LINES:
        yield lines, f"{lines} lines, more than {FILE_LINES}"
    if re.fullmatch(r"_?(utils?|helpers?|misc|common)\.py", module.name):
        yield 1, "the name of a module says what it is about"


# rule, name of the file, source that must be flagged, source that must not
CASES: list[tuple[Callable[[Module], Iterator[Finding]], str, str, str]] = [
    (imports_are_absolute, "a.py", "import sparse", "import cascadenet.sparse"),
    (imports_are_absolute, "a.py", "def f():\n from inference.x import y", "import inferences"),
    (imports_are_absolute, "a.py", "from . import layout", "from cascadenet import delays"),
    (randomness_is_passed_in, "a.py", "np.random.rand(3)", "np.random.default_rng(3).random()"),
    (randomness_is_passed_in, "a.py", "numpy.random.seed(1)", "x: np.random.Generator"),
    (randomness_is_passed_in, "a.py", "import random", "rng.random()"),
    (
        randomness_is_passed_in,
        "a.py",
        "from numpy.random import rand",
        "from numpy.random import default_rng",
    ),
    (nothing_is_printed, "a.py", "def f():\n print(1)", "pprint(1)"),
    (nothing_is_printed, "__main__.py", "print(1)", "x.print(1)"),
    (public_names_have_docstrings, "a.py", "x = 1", "'''Doc.'''"),
    (
        public_names_have_docstrings,
        "a.py",
        "'''D.'''\ndef f(): pass",
        "'''D.'''\ndef _f(): pass",
    ),
    (
        public_names_have_docstrings,
        "a.py",
        "'''D.'''\nclass A:\n def f(self): pass",
        "'''D.'''\nclass A:\n 'D.'\n def f(self): 'D.'\nclass B(A):\n 'D.'\n def f(self): pass",
    ),
    (public_functions_are_annotated, "a.py", "def f(x) -> int: pass", "def f(x: int) -> int: 1"),
    (public_functions_are_annotated, "a.py", "def f(x: int): pass", "def _f(x): pass"),
    (
        public_functions_are_annotated,
        "__init__.py",
        "class A:\n def f(self, *, x) -> int: pass",
        "class A:\n def f(self, *, x: int) -> int: pass",
    ),
    (
        public_functions_are_annotated,
        "a.py",
        "def f(*a, **k) -> int: 1",
        "def f(*a: int) -> int: 1",
    ),
    (numba_stays_in_kernel_files, "a.py", "def f():\n from numba import njit", "numba = 1"),
    (kernel_files_stand_alone, KERNELS, "from cascadenet import delays", "import numpy as np"),
    (kernels_are_compiled_by_one_policy, KERNELS, "def f(): pass", "@kernel\ndef f(): pass"),
    (
        kernels_are_compiled_by_one_policy,
        KERNELS,
        "@kernel\ndef f(): return numba.njit(g)",
        "def kernel(f): return numba.njit(f)",
    ),
    (kernels_are_compiled_by_one_policy, KERNELS, "@numba.njit\ndef f(): pass", "x = 1"),
    (kernels_are_compiled_by_one_policy, KERNELS, "f = numba.njit(g)", "f = kernel(g)"),
    (arithmetic_is_exact, KERNELS, "njit(fastmath=True)", "njit(nogil=True)"),
    (nothing_is_unpickled, "a.py", "import pickle", "import json"),
    (
        nothing_is_unpickled,
        "a.py",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=False)",
    ),
    (nothing_is_unpickled, "a.py", "pd.read_pickle(f)", "pd.read_csv(f)"),
    (
        functions_fit_on_a_screen,
        "a.py",
        "def f():\n" + " x = 1\n" * FUNCTION_LINES,
        "def f():\n" + " x = 1\n" * (FUNCTION_LINES - 1),
    ),
    (files_have_one_idea, "a.py", "x = 1\n" * (FILE_LINES + 1), "x = 1\n" * FILE_LINES),
    (files_have_one_idea, "utils.py", "x = 1\n", ""),
]
RULES = list(dict.fromkeys(case[0] for case in CASES))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_library_follows(rule: Callable[[Module], Iterator[Finding]]) -> None:
    found = [f"{m.path}:{line}: {what}" for m in library() for line, what in rule(m)]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", [imports_are_absolute, randomness_is_passed_in])
def test_tests_follow(rule: Callable[[Module], Iterator[Finding]]) -> None:
    tests = [read(path) for path in sorted((ROOT / "tests").rglob("*.py"))]
    found = [f"{m.path}:{line}: {what}" for m in tests for line, what in rule(m)]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "name", "bad", "good"),
    CASES,
    ids=[f"{case[0].__name__}-{i}" for i, case in enumerate(CASES)],
)
def test_rule_tells_bad_from_good(
    rule: Callable[[Module], Iterator[Finding]], name: str, bad: str, good: str
) -> None:
    assert list(rule(Module(name, bad)))
    name = "fine.py" if name == "utils.py" else name
    assert list(rule(Module(name, good))) == []


def test_library_is_not_empty() -> None:
    """Rules that look at nothing find nothing."""
    assert {"cascadenet/__init__.py", "inference/_kernels.py"} <= {m.path for m in library()}


# Kernels


def kernel_names(module: Module) -> set[str]:
    return {node.name for node in functions(module.tree) if "kernel" in decorators(node)}


def unused(kernels: Module, others: list[Module]) -> set[str]:
    """Public kernels that no other file names: dead code, or code only tests reach."""
    text = "\n".join(module.source for module in others)
    names = filter(public, kernel_names(kernels))
    return {name for name in names if not re.search(rf"\b{name}\b", text)}


def test_every_kernel_is_used() -> None:
    modules = library()
    for kernels in (module for module in modules if module.name == KERNELS):
        same = {name for name in kernel_names(kernels) if kernels.source.count(f"{name}(") > 1}
        folder = kernels.path.partition("/")[0]
        others = [m for m in modules if m.path.startswith(folder) and m is not kernels]
        assert unused(kernels, others) - same == set(), kernels.path


def test_unused_kernel_is_seen() -> None:
    kernels = Module(KERNELS, "@kernel\ndef scan(x): pass\n@kernel\ndef fold(x): pass")
    assert unused(kernels, [Module("a.py", "_kernels.scan(x); folded")]) == {"fold"}


# Notebooks


def stale(text: str) -> list[int]:
    """Cells of a notebook that hold outputs or execution counts."""
    cells = json.loads(text)["cells"]
    return [i for i, c in enumerate(cells) if c.get("outputs") or c.get("execution_count")]


def test_notebooks_hold_no_outputs() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert stale(path.read_text(encoding="utf-8")) == [], path.name


def test_stale_output_is_seen() -> None:
    fresh = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [fresh, fresh | {"execution_count": 3}, fresh | {"outputs": [{}]}]
    assert stale(json.dumps({"cells": cells})) == [1, 2]
