"""Every update of the sampler leaves the joint law of parameters and data as it is.

False alarms: a case compares about 150 statistics that move. A z beyond 4 has probability 6e-5, so
under one in a hundred a case; it is a failure only if the same statistic is beyond 4 again in twice
as many fresh worlds, which happens by chance in less than one of 1e6 runs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cascadenet.inference import geweke, rates, sampler, seeded_bugs, worlds
from cascadenet.inference.sampler import Chain
from cascadenet.inference.worlds import CASES

WORLDS = 5000  # independent, so this is the effective sample size
BUG_WORLDS = 4000
LIMIT, CAUGHT = 4.0, 8.0


def offenders(table: geweke.ZTable) -> set[tuple[str, str]]:
    return {(block, name) for block, row in table.items() for name in row if abs(row[name]) > LIMIT}


@pytest.mark.parametrize("case", CASES)
def test_updates_leave_the_joint_law_alone(case: str, seed: int) -> None:
    model, design = CASES[case]
    tested = geweke.blocks(model, design)
    table = geweke.joint_test(model, design, tested, replicates=WORLDS, seed=seed)
    suspects = offenders(table)
    if suspects:
        again = {block: tested[block] for block, _ in suspects}
        fresh = geweke.joint_test(model, design, again, replicates=2 * WORLDS, seed=seed + 1)
        assert not suspects & offenders(fresh), (table, fresh)


@pytest.mark.parametrize("case", CASES)
def test_every_update_moves_something_that_is_compared(case: str, seed: int) -> None:
    model, design = CASES[case]
    tested = geweke.blocks(model, design)
    assert {update.__name__ for update in sampler.sweep_updates(model)} <= set(tested)
    table = geweke.joint_test(model, design, tested, replicates=50, seed=seed)
    for block, row in table.items():
        moved = sum(z != 0.0 for z in row.values())
        assert moved >= (20 if "sweep" in block else block != "refresh_shape"), block


def inflate(chain: Chain) -> None:
    """An update nobody has thought of yet, and wrong."""
    chain.state.b *= 1.05
    rates.set_b(chain, chain.state.b)


def test_new_update_is_covered(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = sampler.sweep_updates
    monkeypatch.setattr(sampler, "sweep_updates", lambda model: (inflate, *given(model)))
    model, design = CASES["flat"]
    tested = geweke.blocks(model, design)
    table = geweke.joint_test(model, design, tested, replicates=200, seed=seed)
    assert "inflate" in {block for block, _ in offenders(table)}


def test_long_chain_agrees_with_worlds(seed: int) -> None:
    """The classical form, short here: the command runs it to 5000 effective draws.

    False-alarm rate: about 25 statistics beyond 4.5 standard errors, under 2e-4.
    """
    found = geweke.successive_test(*CASES["flat"], sweeps=4000, seed=seed)
    assert len(found) >= 10
    assert max(abs(z) for z, _ in found.values()) < 4.5
    assert min(ess for _, ess in found.values()) > 100


# Worlds


@pytest.mark.parametrize("case", CASES)
def test_worlds_obey_their_hazards(case: str, seed: int) -> None:
    """n - lambda E is a martingale: its mean is zero for every pair, and for the background.

    Ties the worlds to the exposures of the layout. False-alarm rate: 12 pairs beyond 4.5, 1e-4.
    """
    model, design = CASES[case]
    rng = np.random.default_rng(seed)
    chain = worlds.new_chain(rng, model, design, worlds.draw_world(rng, model, design))
    kept, rates_drawn = geweke.Draws(1500, chain), []
    for row in range(1500):
        world = worlds.draw_world(rng, model, design)
        worlds.place(chain, world, design)
        kept.put(row, chain)
        rates_drawn.append(world.rates)
    surplus = kept.count - np.array(rates_drawn) * kept.exposure
    off = ~np.eye(design.n_nodes, dtype=bool)
    assert (kept.count.sum(axis=0)[off] > 0).all()
    z = surplus.mean(axis=0) / surplus.std(axis=0).clip(1e-300) * np.sqrt(1500)
    assert np.abs(z[off]).max() < 4.5


def test_exposures_differ(seed: int) -> None:
    """Without unequal exposures there would be nothing to balance."""
    model, design = CASES["hdp"]
    rng = np.random.default_rng(seed)
    chain = worlds.new_chain(rng, model, design, worlds.draw_world(rng, model, design))
    kept = geweke.Draws(100, chain)
    for row in range(100):
        world = worlds.draw_world(rng, model, design)
        worlds.place(chain, world, design)
        kept.put(row, chain)
    exposure = kept.exposure.mean(axis=0)[~np.eye(design.n_nodes, dtype=bool)]
    assert exposure.min() < 0.5 * exposure.max()


# Negative controls


@pytest.mark.parametrize("bug", seeded_bugs.BUGS, ids=lambda bug: bug.name)
def test_bug_is_caught(bug: seeded_bugs.Bug, seed: int) -> None:
    statistic, z = seeded_bugs.catch(bug, replicates=BUG_WORLDS, seed=seed)
    assert abs(z) > CAUGHT, statistic


def test_bug_is_taken_out_again() -> None:
    bug = seeded_bugs.BUGS[0]
    whole = getattr(bug.module, bug.function)
    with seeded_bugs.planted(bug):
        assert getattr(bug.module, bug.function) is not whole
    assert getattr(bug.module, bug.function) is whole


def test_control_that_fits_no_more_is_refused() -> None:
    bug = dataclasses.replace(seeded_bugs.BUGS[0], edits=(("no such text", ""),))
    with pytest.raises(ValueError, match="no such text"), seeded_bugs.planted(bug):
        pass
