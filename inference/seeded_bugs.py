"""Negative controls: bugs put into the sampler on purpose, which the joint test must catch.

A bug is an edit of the sampler's own source text, or a wrong order of its updates. An edit whose
text is no longer there raises, so that a control cannot quietly stop controlling anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from cascadenet.inference import _kernels, communities, geweke, rates
from cascadenet.inference.parents import _kernels as parent_kernels
from cascadenet.inference.sampler import Chain, Update
from cascadenet.inference.worlds import CASES


@dataclass(frozen=True)
class Bug:
    """A bug and the test that must catch it.

    Attributes
    ----------
    name : str
    case : str
        Key of `worlds.CASES`.
    block : str
        Key of `geweke.blocks`.
    module, function, edits
        Source to change: every (old, new) text, which must be in the function exactly once.
    caller : str, optional
        Function that calls the changed one, where that one is not called from outside.
    repeats : int
        Times the block is applied.
    settings : dict
        Fields of the chain's model that are set wrongly.
    reorder : callable, optional
        Makes wrong updates out of those of the block.
    """

    name: str
    case: str
    block: str
    module: ModuleType | None = None
    function: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    caller: str = ""
    repeats: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    reorder: Callable[[tuple[Update, ...]], tuple[Update, ...]] | None = None


def _network_first(updates: tuple[Update, ...]) -> tuple[Update, ...]:
    """The network drawn before the concentrations and the popularity it rests on."""
    kept = [update for update in updates if update is not communities.draw_network]
    kept.insert(kept.index(communities.draw_tokens) + 1, communities.draw_network)
    return tuple(kept)


def _tokens_sorted(updates: tuple[Update, ...]) -> tuple[Update, ...]:
    """Tokens in the order of their communities, which a scan in their order then depends on."""

    def sort(chain: Chain) -> None:
        state = chain.state
        order = np.argsort(state.community, kind="stable")
        for name in ("token_sender", "token_receiver", "community"):
            setattr(state, name, getattr(state, name)[order])

    return (sort, *updates)


BUGS = (
    Bug(
        "missing decrement of the old parent's count",
        "hdp",
        "draw_parents",
        _kernels,
        "update_parents",
        (("n_pair[old] -= 1", "pass"),),
    ),
    Bug(
        "h dropped from the weights of the parents",
        "capped",
        "draw_parents",
        _kernels,
        "_weight_of",
        (("if cand_weight.size > 0", "if False"),),
        caller="update_parents",
    ),
    Bug(
        "swap ratio without the rates",
        "hdp",
        "swap_parents",
        parent_kernels,
        "_transfer",
        ((" * d_a\n", "\n"), (" * d_b\n", "\n")),
        caller="update_swaps",
    ),
    Bug(
        "wrong CRT: tables of r / (r + m + 1)",
        "hdp",
        "sweep",
        _kernels,
        "crt_tables",
        (("(concentration[x] + m) <", "(concentration[x] + m + 1) <"),),
    ),
    Bug(
        "exposure not balanced",
        "hdp",
        "draw_network",
        settings={"balance_exposure": False},
    ),
    Bug(
        "phantom tokens between a node and itself thinned",
        "hdp",
        "sweep",
        _kernels,
        "thin_phantoms",
        (("if u != v and u <", "if u <"),),
    ),
    Bug(
        "stale beta: network drawn before the concentrations",
        "hdp",
        "sweep",
        reorder=_network_first,
    ),
    Bug(
        "off by one: tau's auxiliary variables for one token too many",
        "hdp",
        "update_popularity",
        communities,
        "update_popularity",
        (("np.tile(eta[occupied], 2)", "np.tile(eta[occupied], 2) + 1"),),
    ),
    Bug(
        "off by one: alpha from one table too few",
        "open",
        "update_alpha",
        communities,
        "update_alpha",
        (("new, old).sum()", "new, old).sum() - 1"),),
    ),
    Bug(
        "tokens scanned in the order of their communities",
        "hdp",
        "draw_token_communities",
        repeats=3,
        reorder=_tokens_sorted,
    ),
    Bug(
        "split without the choice of its label",
        "open",
        "split_merge",
        communities,
        "_split_or_merge",
        (("math.log(empty.size if split else empty.size + 1)", "0.0"),),
    ),
    Bug(
        "b blind to pairs that never met",
        "hdp",
        "update_b",
        rates,
        "RateTarget",
        (("np.maximum(mass - listed, 0.0)", "np.zeros(layout.n_nodes)"),),
        repeats=15,
    ),
    Bug(
        "exposures kept while the delay changes",
        "flat",
        "update_delay",
        rates,
        "update_delay",
        (("target.at(state.b, *exposures)", "target.at(state.b)"),),
    ),
    Bug(
        "tables of remembered transmissions fed to the communities",
        "dynamic",
        "draw_network",
        communities,
        "_new_tables",
        (("_thinned(chain.rng, tables, state.shape[used], remembered)", "tables"),),
        caller="draw_tokens",
        repeats=10,
    ),
    Bug(
        "persistence from memories in force only",
        "dynamic",
        "update_persistence",
        rates,
        "update_persistence",
        (("state.kept.size - in_force", "0.0"),),
    ),
)


def catch(bug: Bug, *, replicates: int, seed: int | np.random.Generator) -> tuple[str, float]:
    """Statistic and z that give the bug away.

    Parameters
    ----------
    bug : Bug
    replicates : int
        Number of independent worlds.
    seed : int or numpy.random.Generator

    Returns
    -------
    str, float
        Statistic of the largest \\|z\\|, and that z.
    """
    model, design = CASES[bug.case]
    with planted(bug):
        updates = geweke.blocks(model, design)[bug.block]
        if bug.reorder is not None:
            updates = bug.reorder(updates)
        table = geweke.joint_test(
            model,
            design,
            {bug.name: updates},
            replicates=replicates,
            seed=seed,
            repeats=bug.repeats,
            chain_model=dataclasses.replace(model, **bug.settings),
        )
    return geweke.worst(table)[1:]


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The sampler with the bug in it."""
    if bug.module is None:
        yield
        return
    name = bug.caller or bug.function
    whole = getattr(bug.module, name)
    setattr(bug.module, name, _edited(bug.module, bug)[name])
    try:
        yield
    finally:
        setattr(bug.module, name, whole)


def _edited(module: ModuleType, bug: Bug) -> dict[str, Any]:
    """What the edited source of a module defines; kernels come uncompiled."""
    function = getattr(module, bug.function)
    text = inspect.getsource(getattr(function, "py_func", function))
    changed = text
    for old, new in bug.edits:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} must be once in {bug.function}; got {text.count(old)} times")
        changed = changed.replace(old, new)
    names: dict[str, Any] = {"__name__": module.__name__}
    source = inspect.getsource(module).replace(text, changed)
    exec(compile(source, f"<{bug.name}>", "exec"), names)
    names.update({name: getattr(value, "py_func", value) for name, value in names.items()})
    return names
