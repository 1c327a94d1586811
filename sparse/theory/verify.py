"""Compare the limits with simulation on many configurations: z-scores and their rms.

``python -m cascadenet.sparse.theory.verify`` takes a minute or two and exits with 1 when the
agreement is not that of correct formulas.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cascadenet.sparse.theory.laws import Law, isotropic, power_law, two_level
from cascadenet.sparse.theory.simulator import simulate

if TYPE_CHECKING:
    import pandas as pd

SEED = 20210209
RMS = (0.9, 1.2)  # a correct formula with 30 repeats gives sqrt(29/27) = 1.04 on average
LARGEST = 5.0  # of |z|: about one false alarm in 100 runs at 30 repeats


def configurations() -> Iterator[tuple[str, Law, float, float, float, float, float]]:
    """Name, law, kappa, noise, kept fraction, ridge and ridge of the refit; 48 of them."""
    bimodal = Law([0.5, 0.5], [2.0, 0.2], [0.0, 0.0], [1.0, 1.0])
    spiked = two_level(0.1, 1.0, 0.3, eigenvalues=(25.0, 1.0))
    antispiked = Law([0.1, 0.9], [0.2, 1.0], [3.0, 0.4], [0.25, 0.05])
    deficient = Law([0.4, 0.4, 0.2], [2.0, 0.5, 0.0], [1.0, 0.6, 5.0], [0.0, 0.1, 0.0])
    laws = {
        "isotropic": (isotropic(gaussian=True), 0.5, 0.2),
        "two-level": (two_level(), 0.25, 0.2),
        "bimodal": (bimodal, 0.5, 0.15),
        "power-law": (power_law(60, 1.2), 0.3, 0.1),
        "spiked": (spiked, 0.5, 0.1),
        "antispiked": (antispiked, 0.2, 0.1),
        "rank-deficient": (deficient, 0.4, 0.2),
    }
    for name, (law, noise, kept) in laws.items():
        for kappa in (0.4, 0.8, 1.6, 2.5, 4.0, 6.0):
            if name == "rank-deficient" and kappa == 1.6:
                kappa = 2.0  # keep away from the peak, where averages need many more repeats
            yield name, law, kappa, noise, kept, 0.0, 0.0
    for name, kappa in (("bimodal", 1.6), ("bimodal", 4.0)):
        yield f"{name}, noiseless", laws[name][0], kappa, 0.0, laws[name][2], 0.0, 0.0
    for name, kappa, ridge, refit in (
        ("two-level", 1.0, 0.2, 0.1),
        ("bimodal", 4.0, 0.05, 0.15),
        ("spiked", 2.0, 1.0, 0.0),
        ("power-law", 1.0, 0.02, 0.02),
    ):
        law, noise, kept = laws[name]
        yield f"{name}, ridge", law, kappa, noise, kept, ridge, refit


def compare(
    *, n_samples: int = 300, repeats: int = 30, seed: int = SEED, most: int | None = None
) -> pd.DataFrame:
    """Simulate the configurations; one row per configuration and risk, with its z-score.

    Parameters
    ----------
    n_samples, repeats, seed : int
        As for `cascadenet.sparse.theory.simulate`.
    most : int, optional
        Only this many configurations, spread over the list.

    Returns
    -------
    pandas.DataFrame
        The columns of `cascadenet.sparse.theory.simulate` after ``name``.
    """
    import pandas as pd

    cases = list(configurations())
    if most is not None:
        cases = [cases[i] for i in np.linspace(0, len(cases) - 1, most).astype(int)]
    streams = np.random.default_rng(seed).spawn(len(cases))
    parts = []
    for (name, law, kappa, noise, kept, ridge, refit), rng in zip(cases, streams, strict=True):
        table = simulate(
            law, kappa, noise, kept,
            n_samples=n_samples, repeats=repeats, ridge=ridge, retrain_ridge=refit, seed=rng,
        )  # fmt: skip
        table.insert(0, "name", name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def rms(z: np.ndarray | pd.Series) -> float:
    """Root mean square of the finite z-scores."""
    z = np.asarray(z, dtype=np.float64)
    return float(np.sqrt(np.mean(z[np.isfinite(z)] ** 2)))


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and write it to standard output; 0 when it agrees."""
    parser = argparse.ArgumentParser(prog="cascadenet.sparse.theory.verify", description=__doc__)
    parser.add_argument("--samples", type=int, default=300, help="training samples (300)")
    parser.add_argument("--repeats", type=int, default=30, help="data sets each (30)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--most", type=int, help="only this many configurations")
    options = parser.parse_args(arguments)
    table = compare(
        n_samples=options.samples, repeats=options.repeats, seed=options.seed, most=options.most
    )
    # equal scores give the same number twice: isotropic Hessian and magnitude
    table = table.drop_duplicates(["name", "kappa", "mean", "theory"])
    shown = table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
    overall, largest = rms(table["z"]), float(table["z"].abs().max())
    good = RMS[0] <= overall <= RMS[1] and largest <= LARGEST
    by_risk = table.groupby("risk")["z"].agg(rms).round(2).to_dict()
    count = len(table[["name", "kappa"]].drop_duplicates())
    sys.stdout.write(
        f"{shown}\n\n{count} configurations, {len(table)} comparisons: rms z {overall:.3f} "
        f"(wanted {RMS[0]}-{RMS[1]}), largest |z| {largest:.2f} (wanted at most {LARGEST:g})\n"
        f"rms z by risk: {by_risk}\n{'agrees' if good else 'DISAGREES'}\n"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
