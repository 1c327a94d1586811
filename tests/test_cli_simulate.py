"""`cascadenet simulate`: files that read back."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

import cascadenet as cn
from tests.command_line import Call, is_one_error, listing, write


@pytest.mark.parametrize(
    ("network", "n_nodes", "n_edges"),
    [
        (("kronecker", "--n-nodes", 32, "--n-edges", 50, "--kind", "hierarchical"), 32, 50),
        (("communities", "--communities", 2, "--size", 9, "--within", 1, "--between", 0), 18, 144),
        (("model", "--n-nodes", 30, "--communities", 2, "--n-edges", 80), 30, None),
    ],
)
def test_simulated_files_read_back(
    call: Call, tmp_path: Path, network: tuple[object, ...], n_nodes: int, n_edges: int | None
) -> None:
    simulate = ("simulate", "--network", *network, "--cascades", 12, "--horizon", 1, "--seed", 5)
    names = {"-o": "c.csv", "--edges-out": "t.csv", "--nodes-out": "n.txt"}
    files = [part for flag, name in names.items() for part in (flag, tmp_path / name)]
    code, out, err = call(*simulate, "--rate", "0.5,2", *files)
    assert (code, out) == (0, "")
    assert err.startswith(f"cascadenet: {n_nodes} nodes, ")
    assert err.endswith("seed 5\n")
    nodes, truth = cn.read_nodes(tmp_path / "n.txt"), cn.read_network(tmp_path / "t.csv")
    assert nodes == tuple(range(n_nodes))
    assert n_edges in (len(truth), None)
    assert truth["rate"].between(0.5, 2).all()
    cascades = cn.Cascades.read_csv(tmp_path / "c.csv", nodes=nodes, horizon=1.0)
    assert (cascades.n_cascades, cascades.n_nodes) == (12, n_nodes)
    assert call(*simulate, "--rate", "0.5,2")[1] == (tmp_path / "c.csv").read_text()
    other = call(*simulate[:-1], 6, "--rate", "0.5,2")[1]
    assert other != (tmp_path / "c.csv").read_text()


def test_simulation_on_a_network_of_a_file(call: Call, tmp_path: Path) -> None:
    """A chain of three nodes with huge rates: whoever starts, the rest follows in order."""
    truth = write(tmp_path / "t.csv", "source,target,rate\na,b,1e6\nb,c,1e6\n")
    simulate = ("simulate", "--network", truth, "--cascades", 9, "--window", 1, "--seed", 1)
    out = call(*simulate, "--delay", "rayleigh")[1]
    frame = pd.read_csv(io.StringIO(out))
    for _, nodes in frame.groupby("cascade")["node"]:
        assert "abc".endswith("".join(nodes))
    assert frame["cascade"].nunique() == 9
    code, _, err = call(*simulate, "--delay", "lognormal", "--theta", "1")
    assert is_one_error(code, err, "theta of the delay 'lognormal' must hold")


def test_infections_from_outside(call: Call, tmp_path: Path) -> None:
    """Nodes without a path to them are infected only by a background, here with 1 - exp(-40)."""
    truth = write(tmp_path / "t.csv", "source,target,rate\na,b,1e-9\nc,d,1e-9\n")
    simulate = ("simulate", "--network", truth, "--cascades", 9, "--window", 1, "--seed", 1)
    sizes = [call(*simulate, *more)[1].count("\n") - 1 for more in ((), ("--background", 40))]
    assert sizes == [9, 36]


def test_simulation_writes_all_files_or_none(call: Call, tmp_path: Path) -> None:
    simulate = ("simulate", "--network", "model", "--cascades", 3, "--window", 1)
    files = ("-o", tmp_path / "c.csv", "--edges-out", tmp_path / "t.csv")
    code, out, err = call(*simulate, *files, "--nodes-out", tmp_path)
    assert out == ""
    assert is_one_error(code, err, f"{tmp_path} is a folder; expected a file")
    assert listing(tmp_path) == {}


def test_seed_of_a_simulation_is_told(call: Call) -> None:
    simulate = ("simulate", "--network", "model", "--n-nodes", 9, "--cascades", 3, "--window", 1)
    _, first, err = call(*simulate)
    seed = err.split("seed ")[1].strip()
    assert call(*simulate, "--seed", seed)[1] == first
