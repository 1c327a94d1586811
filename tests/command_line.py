"""What the tests of the command line share; the fixtures `call` and `made` are in conftest."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--draws", 4, "--tune", 2, "--chains", 1, "--seed", 1, "--no-plots", "--quiet")
HEAD = "cascade,node,time\n"
GOOD = HEAD + "0,a,0\n0,b,1\n1,b,0\n1,c,2\n"

Call = Callable[..., tuple[int, str, str]]


def shell(*argv: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own, from the sources."""
    command = [sys.executable, "-m", "cascadenet", *map(str, argv)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=given, capture_output=True, timeout=120, check=False)


def listing(folder: Path) -> dict[str, bytes | None]:
    """All there is below a folder, hidden files too, with the bytes of files."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def is_one_error(code: int, err: str, *parts: str) -> bool:
    """Exit code 1 and one line that says all the parts."""
    one = err.startswith("cascadenet: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return code == 1 and one and all(part in err for part in parts)


def same_table(text: str, table: pd.DataFrame) -> None:
    """The CSV text holds the table, to six digits."""
    read = pd.read_csv(io.StringIO(text))
    pd.testing.assert_frame_equal(read, table.reset_index(drop=True), rtol=1e-5, check_dtype=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
