"""The package imports fast, runs from a bare checkout, and setup.cfg describes all of it."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cascadenet

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("arviz", "matplotlib", "networkx", "numba", "pandas", "scipy", "tqdm")
IMPORT_SECONDS = 0.3
HELP_SECONDS = 0.5
TRIES = 5  # the least of several times is that of the code, the others are the machine's


def run(*args: str, cwd: Path = ROOT, **env: str) -> str:
    """Standard output of the interpreter on ``args``; fails with its standard error."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def seconds(code: str, enough: float) -> float:
    """Least time of ``code`` in a fresh interpreter; of `TRIES`, or until one is below enough."""
    program = f"from time import perf_counter as t\nb = t()\n{code}\nprint(t() - b)"
    least = float("inf")
    for _ in range(TRIES):
        least = min(least, float(run("-c", program)))
        if least < enough:
            break
    return least


# Import


def loaded_heavy(code: str) -> set[str]:
    found = run("-c", f"{code}\nimport sys\nprint(*(m for m in {HEAVY!r} if m in sys.modules))")
    return set(found.split())


@pytest.mark.parametrize(
    "code",
    [
        "import cascadenet",
        "import cascadenet, cascadenet.inference, cascadenet.sparse; dir(cascadenet)",
        "import cascadenet; cascadenet.Cascades",
        "import cascadenet; cascadenet.__version__",
    ],
)
def test_import_loads_nothing_heavy(code: str) -> None:
    assert loaded_heavy(code) == set()


def test_check_for_heavy_modules_sees_one() -> None:
    assert "scipy" in loaded_heavy("import cascadenet, scipy")


def test_import_is_fast() -> None:
    assert seconds("import cascadenet", IMPORT_SECONDS) < IMPORT_SECONDS


def test_slow_import_is_seen() -> None:
    code = f"import time, cascadenet; time.sleep({IMPORT_SECONDS})"
    assert seconds(code, IMPORT_SECONDS) >= IMPORT_SECONDS


def test_help_is_fast() -> None:
    code = "import subprocess, sys; subprocess.run({!r}, check=True, stdout=subprocess.DEVNULL)"
    command = [sys.executable, "-m", "cascadenet", "--help"]
    assert seconds(code.format(command), HELP_SECONDS) < HELP_SECONDS


# Names


PACKAGES = ("cascadenet", "cascadenet.inference", "cascadenet.sparse")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if getattr(module, name, None) is None]
    assert missing == []
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Cascade5'"):
        _ = importlib.import_module(package).Cascade5


# Version


def test_version_has_one_source() -> None:
    version = config()["metadata"]["version"]
    assert cascadenet.__version__ == version
    assert re.search(rf"^## {re.escape(version)} ", (ROOT / "CHANGELOG.md").read_text(), re.M)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "project" not in pyproject, "metadata belong into setup.cfg"


def test_checkout_reports_its_own_version(tmp_path: Path) -> None:
    """Not that of another copy which happens to be installed."""
    installed = tmp_path / "cascadenet-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: cascadenet\nVersion: 9.9\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    code = "import cascadenet, importlib.metadata as m; print(m.version('cascadenet'), end=' ')"
    found = run("-c", f"{code}; print(cascadenet.__version__)", cwd=tmp_path, PYTHONPATH=path)
    assert found.split() == ["9.9", config()["metadata"]["version"]]


# Bare checkout


def test_module_runs_from_a_bare_checkout(tmp_path: Path) -> None:
    """``-S`` hides what is installed: neither the package nor its dependencies are there."""
    found = run("-m", "cascadenet", "--version", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert config()["metadata"]["version"] in found
    code = "import cascadenet.inference as i, cascadenet.sparse as s; print(i.__file__, s.__file__)"
    found = run("-S", "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    files = [str(ROOT / folder / "__init__.py") for folder in ("inference", "sparse")]
    assert found.split() == files


def test_top_level_folders_do_not_shadow_installed_packages(tmp_path: Path) -> None:
    """With the package imported, ``sparse`` is still whatever is installed under that name."""
    (tmp_path / "sparse.py").write_text("origin = 'elsewhere'\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    code = "import cascadenet.sparse, sparse; print(sparse.origin, cascadenet.sparse.__name__)"
    found = run("-c", code, cwd=tmp_path, PYTHONPATH=path)
    assert found.split() == ["elsewhere", "cascadenet.sparse"]


# setup.cfg


def package_folders(root: Path) -> set[str]:
    """Dotted names of all package folders of a checkout."""
    tops = {"cascadenet": "cascadenet"}
    tops |= {name: f"cascadenet.{name}" for name in ("inference", "sparse")}
    found = set()
    for top, name in tops.items():
        for init in (root / top).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(root / top).parts]))
    return found


def test_setup_lists_every_package() -> None:
    assert set(lines(config()["options"]["packages"])) == package_folders(ROOT)


def test_modules_outside_a_package_are_none() -> None:
    """A folder without ``__init__.py`` would not be installed."""
    tops = [ROOT / name for name in ("cascadenet", "inference", "sparse")]
    modules = [path for top in tops for path in top.rglob("*.py")]
    assert [str(path) for path in modules if not (path.parent / "__init__.py").is_file()] == []


def test_check_of_packages_sees_a_missing_line(tmp_path: Path) -> None:
    for folder in ("cascadenet", "inference", "sparse", "sparse/theory"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    found = package_folders(tmp_path)
    assert found == {*PACKAGES, "cascadenet.sparse.theory"}


def test_package_is_marked_as_typed() -> None:
    assert (ROOT / "cascadenet" / "py.typed").is_file()
    assert config()["options.package_data"]["cascadenet"] == "py.typed"


@pytest.mark.parametrize("name", ["inference", "sparse"])
def test_folders_do_not_answer_to_their_bare_names(name: str) -> None:
    """Other packages try `import sparse`, and the root of a checkout may be on the path."""
    code = f"""
try:
    import {name}
except ModuleNotFoundError:
    import cascadenet.{name}
    print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["fine"]
