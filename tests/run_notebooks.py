"""Execute notebooks in a scratch folder; the files themselves stay as they are.

``python tests/run_notebooks.py [NOTEBOOK ...]``; all of ``notebooks/`` by default. Exits with 1
when a cell fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SECONDS_PER_CELL = 300


def execute(path: Path) -> str | None:
    """Run one notebook; return the error of its first failing cell, or None."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except CellExecutionError as error:
            return str(error)
    return None


def main(arguments: list[str]) -> int:
    """Run the notebooks named, or all; return the exit code."""
    paths = [Path(name) for name in arguments] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    # The kernel starts in the scratch folder, where a bare checkout would not be found.
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *before])
    if (data := ROOT.parent / "shared" / "data").is_dir():
        os.environ.setdefault("CASCADENET_DATA", str(data))
    failed = 0
    for path in paths:
        began = time.perf_counter()
        error = execute(path)
        failed += error is not None
        print(f"{'FAILED' if error else 'ok'} {path.name} {time.perf_counter() - began:.1f} s")
        if error:
            print(error)
    print(f"{len(paths) - failed} notebooks passed, {failed} failed")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
