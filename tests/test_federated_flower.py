"""A real Flower federation on loopback: a SuperLink and three SuperNodes, each a process.

Three rounds with parts of different shapes; after the first, one SuperNode is killed and the
others finish. Skipped where Flower is not installed. Takes about two minutes: one to wait for the
reply of the killed one, the rest mostly for the processes that Flower starts for every task.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed (extra 'flower')")
pytest.importorskip("sklearn", reason="the workers train on scikit-learn's digits")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 260  # for everything; starting and stopping fit into five minutes with it
ROUNDS, REPLY_SECONDS = 3, 60
DEAD = 0  # the worker whose SuperNode is killed

PROJECT = """
[project]
name = "digits"
version = "1.0.0"
license = "BSD-3-Clause"
dependencies = []

[tool.flwr.app]
publisher = "cascadenet"

[tool.flwr.app.components]
serverapp = "digits.server:app"
clientapp = "digits.client:app"

[tool.flwr.app.config]
folder = "{folder}"
"""

SERVER = f"""
import json
from pathlib import Path

import numpy as np
from flwr.serverapp import ServerApp
from sklearn.datasets import load_digits

from cascadenet.sparse.federated import AdaptCL, LocalTraining, RateRule
from cascadenet.sparse.federated.flower import AdaptCLStrategy
from cascadenet.sparse.pruning import Network

app = ServerApp()


@app.main()
def main(grid, context):
    folder = Path(context.run_config["folder"])
    network = Network((64,), (64, 32), 10, seed=1)
    core = AdaptCL(interval=1, rate=RateRule(rho_max=0.9, regrow=False))
    strategy = AdaptCLStrategy(
        core, network, 3, n_rounds={ROUNDS}, training=LocalTraining(epochs=40, batch_size=16),
        patience=100,
    )
    x, y = load_digits(return_X_y=True)

    def judge(round, arrays):
        model = core.model()
        right = model.predict((x / 16).astype(np.float32)).argmax(axis=1) == y
        finite = bool(np.isfinite(model.parameters).all())
        state = {{
            "accuracy": float(right.mean()),
            "finite": finite,
            "shapes": strategy.shapes_,
            "retention": core.retention.tolist(),
            "times": [t.tolist() for t in strategy.times_],
            "rejections": [[list(r) for r in rs] for rs in strategy.rejections_],
            "d": network.parameters.size,
        }}
        partial = folder / "partial.json"
        partial.write_text(json.dumps(state))
        partial.replace(folder / f"round{{round}}.json")

    strategy.start(
        grid, strategy.initial_arrays(), num_rounds={ROUNDS}, timeout={REPLY_SECONDS},
        evaluate_fn=judge,
    )
    (folder / "done").touch()
"""

# Workers with 200, 500 and 1040 rows are workers of different speed: tens to hundreds of
# milliseconds in training, which a busy machine does not turn round. Further apart, the slow ones
# would come down to the smallest parts at once, too small to learn in three rounds.
CLIENT = """
import numpy as np
from sklearn.datasets import load_digits

from cascadenet.sparse.federated.flower import client_app

BOUNDS = (0, 200, 700, 1740)


def load(context):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(y.size)
    worker = int(context.node_config["partition-id"])
    rows = order[BOUNDS[worker] : BOUNDS[worker + 1]]
    return x[rows] / 16, y[rows]


app = client_app(load)
"""

CONFIG = """
[superlink]
default = "loopback"

[superlink.loopback]
address = "127.0.0.1:{port}"
insecure = true
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name: str) -> str:
    """A command of Flower, of this interpreter's environment first."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on the path")
    return found


class Federation:
    """The processes of a run, each leading a group that holds what it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.processes: dict[str, subprocess.Popen] = {}
        app = folder / "app"
        (app / "digits").mkdir(parents=True)
        (app / "pyproject.toml").write_text(PROJECT.format(folder=folder.as_posix()))
        for name, text in (("__init__", ""), ("server", SERVER), ("client", CLIENT)):
            (app / "digits" / f"{name}.py").write_text(text)
        home = folder / "home"
        home.mkdir()
        (home / "config.toml").write_text(CONFIG.format(port=self.port))
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        self.env = os.environ | {
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *before]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def launch(self, name: str, *command: str) -> subprocess.Popen:
        with open(self.folder / f"{name}.log", "w") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(timeout=20)

    def wait_for(self, file: str, end: float) -> None:
        while not (self.folder / file).exists():
            dead = [name for name, p in self.processes.items() if p.poll() not in (None, 0)]
            if dead or time.monotonic() > end:
                reason = f"{dead} ended" if dead else f"no {file} after {SECONDS} s"
                pytest.fail(f"{reason}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    def state(self, round: int) -> dict:
        return json.loads((self.folder / f"round{round}.json").read_text())


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    run = Federation(tmp_path)
    try:
        yield run
    finally:
        for name in reversed(list(run.processes)):
            run.kill(name)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_three_rounds_with_different_shapes_and_a_killed_node(federation: Federation) -> None:
    end = time.monotonic() + SECONDS
    link = f"127.0.0.1:{federation.port}"
    federation.launch(
        "superlink", program("flower-superlink"), "--insecure", "--host", "127.0.0.1",
        "--port", str(federation.port), "--disable-runtime-dependency-installation",
    )  # fmt: skip
    while not listening(federation.port) and time.monotonic() < end:
        time.sleep(0.2)
    for worker in range(3):
        federation.launch(
            f"node{worker}", program("flower-supernode"), "--insecure", "--superlink", link,
            "--host", "127.0.0.1", "--port", str(free_port()),
            "--node-config", f"partition-id={worker}",
        )  # fmt: skip
    federation.launch("run", program("flwr"), "run", "app", "loopback")
    federation.wait_for("round1.json", end)
    federation.kill(f"node{DEAD}")
    federation.wait_for("done", end)

    first, last = federation.state(1), federation.state(ROUNDS)
    d = first["d"]
    assert first["rejections"] == [[]]
    assert first["shapes"] == [{"0": d, "1": d, "2": d}]
    times = np.array(first["times"][0])
    assert times[2] > times[1] > times[0] > 0  # each measured its own
    # the slow ones train smaller parts from the second round on, of different sizes
    shapes = last["shapes"]
    assert shapes[1]["2"] < shapes[1]["1"] < d
    assert shapes[2]["2"] <= shapes[1]["2"]
    # the killed one is missed, and the run goes on without it
    assert all(np.isfinite(t[1:]).all() for t in np.array(last["times"]))
    assert np.isnan(last["times"][ROUNDS - 1][DEAD])
    assert last["finite"]
    assert federation.state(0)["accuracy"] < 0.3
    assert last["accuracy"] > 0.5  # chance is 0.1
