"""Obvious Python for everything that is compiled: the equations, with no regard to cost.

Nothing here uses the compiled code or its data layout. What draws takes the uniform numbers that
the compiled code takes, so results can be compared one by one; what it draws from are the
definitions and transition probabilities of `cascadenet.inference.exact`, which tests find here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import strategies as st

from cascadenet.cascades import Cascades
from cascadenet.inference.exact import (  # noqa: F401 (tests use all of them)
    BACKGROUND,
    Infections,
    Story,
    Tokens,
    background_exposure,
    candidates,
    cascades_of,
    cumulative_hazard,
    edge_probability,
    exposure,
    hazard,
    infections,
    proposal_weights,
    side_probability,
    typical_delay,
)

lgamma = math.lgamma


def first_above(weights: Sequence[float], uniform: float) -> int:
    """Inverse distribution function: the first index whose running sum exceeds uniform * sum."""
    target = uniform * sum(weights)
    running = 0.0
    for index, weight in enumerate(weights):
        running += weight
        if running > target:
            return index
    return len(weights) - 1


def stories(cascades: Cascades) -> list[Story]:
    """Cascades as lists of (time, node)."""
    found = []
    for c in range(cascades.n_cascades):
        inside = range(cascades.offset[c], cascades.offset[c + 1])
        events = [(float(cascades.time[i]), int(cascades.node[i])) for i in inside]
        found.append(Story(sorted(events), float(cascades.horizon[c])))
    return found


def is_listed(tales: list[Story], source: int, child: int, limit: int | None) -> bool:
    """Whether the exposure of a pair may differ from that of a child the source never met."""
    for story in tales:
        t_u, t_v = story.time(source), story.time(child)
        if t_u < math.inf and t_v < math.inf and t_v <= story.leaves(source, limit):
            return True
    return False


# ------------------------------------------------------------------------------------------ parents


def draw_parents(
    data: Infections,
    choice: Sequence[int],
    children: Sequence[int],
    uniform: Sequence[Sequence[float]],
    reinforce: bool,
) -> tuple[int, ...]:
    """Gibbs passes over all infections of some children, a row of `uniform` each."""
    new = list(choice)
    rows = [i for i, v in enumerate(data.child) if v in children]
    for row in uniform:
        for i, x in zip(rows, row, strict=True):
            if data.sources[i]:
                new[i] = first_above(data.weights(new, i, reinforce), x)
    return tuple(new)


def propose_parents(
    data: Infections,
    choice: Sequence[int],
    children: Sequence[int],
    uniform: Sequence[Sequence[Sequence[float]]],
    odds: Sequence[dict],
) -> tuple[tuple[int, ...], int]:
    """A proposal for each infection of some children and row of `uniform`; how many were moves.

    `odds[i]` is what each pair is proposed with for infection i, whatever it explains.
    """
    new, moves = list(choice), 0
    places: dict[int, list] = {}  # by child: pairs that explain something, the first to do so last
    for sources, position in zip(data.sources, choice, strict=True):
        if sources:
            held = places.setdefault(sources[0][1], [])
            if sources[position] not in held:
                held.insert(0, sources[position])
    rows = [i for i, v in enumerate(data.child) if v in children]
    for i, x in ((i, x) for row in uniform for i, x in zip(rows, row, strict=True)):
        sources = data.sources[i]
        if len(sources) < 2:
            continue
        held, target = places[data.child[i]], data.weights(new, i)
        prior = [odds[i][p] for p in sources]
        proposed = proposal_weights(data, i, tuple(new), prior)
        known = [all_ - rest for all_, rest in zip(proposed, prior, strict=True)]
        used = [known[sources.index(p)] if p in sources else 0.0 for p in held]
        share = sum(used) / sum(proposed)
        if x[0] < share:
            to = sources.index(held[first_above(used, x[0] / share)])
        else:
            to = first_above(prior, x[1])
        old = new[i]
        ratio = target[to] * proposed[old] / (target[old] * proposed[to])
        if to != old and x[2] < ratio:
            new[i], moves = to, moves + 1
            if sources[to] not in held:
                held.insert(0, sources[to])
    return tuple(new), moves


def draw_swaps(
    data: Infections, choice: Sequence[int], patience: int, uniform: Sequence[Sequence[float]]
) -> tuple[tuple[int, ...], int]:
    """One swap proposal for each infection with a choice; the result and how many were made."""
    choice, accepted = tuple(choice), 0
    for i, sources in enumerate(data.sources):
        other = min(int(uniform[i][0] * len(sources)), len(sources) - 1)
        if not sources or other == choice[i]:
            continue
        proposal = data.swapped(choice, i, other)
        log_ratio = data.log_weight(proposal) - data.log_weight(choice)
        more = max(1.0, data.involved(choice, i, other) / patience)
        if uniform[i][1] * more < math.exp(min(log_ratio, 0.0)):
            choice, accepted = proposal, accepted + 1
    return choice, accepted


# -------------------------------------------------------------------------- network, tables, tokens


def log_rate_target(
    pairs: list[tuple[float, int, float]], b: float, log_hazards: float = 0.0
) -> float:
    """Sum over all ordered pairs (r, n, E) of the log density with the rates integrated out."""
    value = log_hazards
    for r, n, e in pairs:
        value += lgamma(r + n) - lgamma(r) + r * math.log(b) - (r + n) * math.log(b + e)
    return value


def crt_tables(
    counts: Sequence[int], concentration: Sequence[float], uniform: Sequence[float]
) -> list[int]:
    """Customer m + 1 opens a table with probability r / (r + m)."""
    numbers = iter(uniform)
    tables = []
    for n, r in zip(counts, concentration, strict=True):
        tables.append(sum(next(numbers) < r / (r + m) for m in range(n)))
    return tables


def endpoint_tables(fresh, old, concentration, uniform) -> list[int]:
    """Tables by node: customers of restaurants [node][community] but the first, some there before.

    Tables that are due to those, in number `old`, are not counted.
    """
    numbers = iter(uniform)
    tables = []
    for r, tokens, remembered in zip(concentration, fresh, old, strict=True):
        opened = 0
        for n, before in list(zip(tokens, remembered, strict=True))[1:]:
            opened += sum(next(numbers) < r / (r + before + m) for m in range(n))
        tables.append(opened)
    return tables


def thin_phantoms(community, sender, receiver, exposures: dict, prior: dict, bound, uniform):
    """Endpoints of phantom tokens and whether they stay.

    `exposures` and `prior` rates of pairs, no exposure where absent; `sender` and `receiver` are
    indexed [community][node].
    """
    tokens = []
    for k, (x, y, z) in zip(community, uniform, strict=True):
        u, v = first_above(list(sender[k]), x), first_above(list(receiver[k]), y)
        watched = exposures[u, v] / prior[u, v] if (u, v) in exposures else 0.0
        tokens.append((u, v, z >= math.log(1.0 + watched) / bound))
    return tokens


def draw_communities(pairs, weight, sender, receiver, uniform) -> list[int]:
    """Community of each token given D, A and B, indexed [node][community]."""
    drawn = []
    for (u, v), x in zip(pairs, uniform, strict=True):
        joint = [d * a * b for d, a, b in zip(weight, sender[u], receiver[v], strict=True)]
        drawn.append(first_above(joint, x))
    return drawn


def update_communities(
    tokens: Tokens, assignment: Sequence[int], uniform: Sequence[float]
) -> tuple[int, ...]:
    """One collapsed pass over all tokens."""
    new = list(assignment)
    for t in range(len(new)):
        new[t] = first_above(tokens.weights(new, t), uniform[t])
    return tuple(new)


# ---------------------------------------------------------------------------------- split and merge


def restricted_scan(tokens, anchors, rest, side, uniform, forced=None, labels=(1, 1)):
    """A pass over the tokens that are no anchors; where they end and its log probability."""
    side, log_probability = list(side), 0.0
    for x in range(len(rest)):
        p = side_probability(tokens, anchors, rest, side, x, labels)
        side[x] = int(uniform[x] < p) if forced is None else forced[x]
        log_probability += math.log(p if side[x] == 1 else 1.0 - p)
    return side, log_probability


def split_or_merge(tokens, assignment, anchors, label, ways, uniform, chance) -> list[int]:
    """Communities after a proposal to part two tokens, or to join theirs.

    `label` is the second one's community when parted, which a split chooses in so many `ways`.
    """
    i, j = anchors
    a, c = assignment[i], assignment[j]
    rest = [t for t, k in enumerate(assignment) if k in (a, c) and t not in anchors]
    side, log_proposal = [-1] * len(rest), 0.0
    for left, row in zip(reversed(range(len(uniform))), uniform, strict=True):
        forced = None if a == c or left else [int(assignment[t] == c) for t in rest]
        side, log_proposal = restricted_scan(tokens, anchors, rest, side, row, forced, (a, label))
    joined = [a if k in (a, c) else k for k in assignment]
    parted = list(joined)
    for t, where in [(j, 1), *zip(rest, side, strict=True)]:
        parted[t] = label if where == 1 else a
    log_ratio = tokens.log_weight(parted) - tokens.log_weight(joined) + math.log(ways)
    log_ratio -= log_proposal
    if a == c:
        return parted if chance < math.exp(min(log_ratio, 0.0)) else joined
    return joined if chance < math.exp(min(-log_ratio, 0.0)) else list(assignment)


# ------------------------------------------------------------------------------------- running sums


def accumulate(draws: list[list[tuple[float, float, int]]], unit: float) -> list[dict[str, float]]:
    """Sums over draws of each pair's (shape, rate, n): see `_kernels.accumulate`."""
    sums = []
    for pair in zip(*draws, strict=True):
        moments = [((r + n) / b, (r + n) * (r + n + 1) / b**2, n) for r, b, n in pair]
        used = [moment for moment in moments if moment[2] > 0]
        rest = [moment for moment in moments if moment[2] == 0]
        sums.append(
            {
                "hits": len(used),
                "n_sum": sum(n for *_, n in used),
                "mean_rest": unit * sum(mean for mean, *_ in rest),
                "square_rest": unit**2 * sum(square for _, square, _ in rest),
                "mean_hit": unit * sum(mean for mean, *_ in used),
                "square_hit": unit**2 * sum(square for _, square, _ in used),
            }
        )
    return sums


# -------------------------------------------------------------------------------------------- cases


@st.composite
def cascade_sets(draw, max_nodes: int = 6, max_cascades: int = 4) -> Cascades:
    """Small cascades with ties, seeds that tie, singletons, nodes never infected, any horizons."""
    n_nodes = draw(st.integers(2, max_nodes))
    tales = []
    for _ in range(draw(st.integers(1, max_cascades))):
        nodes = draw(st.lists(st.integers(0, n_nodes - 1), min_size=1, unique=True))
        times = [draw(st.integers(-2, 5)) for _ in nodes]
        watched = draw(st.sampled_from((0.0, 0.5, 4.0)))
        # thirds, so that sums of times round
        events = [(t / 3.0, v) for t, v in zip(times, nodes, strict=True)]
        tales.append(Story(sorted(events), max(events)[0] + watched))
    return cascades_of(tales, n_nodes)
