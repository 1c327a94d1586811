"""Obvious Python for everything that is compiled: the equations, with no regard to cost.

Nothing here uses the compiled code or its data layout. Counts are made afresh wherever they are
needed, exposures are summed over cascades as they are defined, densities are written out in full.
What draws takes the uniform numbers that the compiled code takes, so results can be compared one by
one; what it draws from is a function of its own, so transition probabilities can be enumerated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate as accumulate_sum
from itertools import product
from statistics import median

from hypothesis import strategies as st
from scipy.special import ndtr

from cascadenet.cascades import Cascades

BACKGROUND = -1
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


# ------------------------------------------------------------------------------------------- delays


def hazard(name: str, theta: Sequence[float], delay: float) -> float:
    """Hazard shape h(D) of a delay model, D > 0."""
    if name == "exponential":
        return 1.0
    if name == "rayleigh":
        return delay
    if name == "powerlaw":
        return 1.0 / delay if delay > theta[0] else 0.0
    if name == "weibull":
        return theta[0] * delay ** (theta[0] - 1.0)
    if name == "decay":
        return theta[0] * math.exp(-theta[0] * delay)
    z = (math.log(delay) - theta[0]) / theta[1]
    return math.exp(-0.5 * z * z) / (delay * theta[1] * math.sqrt(2.0 * math.pi))


def cumulative_hazard(name: str, theta: Sequence[float], delay: float) -> float:
    """H(D), the integral of h over [0, D]."""
    if name == "exponential":
        return delay
    if name == "rayleigh":
        return delay**2 / 2.0
    if name == "powerlaw":
        return math.log(delay / theta[0]) if delay > theta[0] else 0.0
    if name == "weibull":
        return delay ** theta[0]
    if name == "decay":
        return 1.0 - math.exp(-theta[0] * delay)
    return float(ndtr((math.log(delay) - theta[0]) / theta[1])) if delay > 0.0 else 0.0


# ------------------------------------------------------------------- cascades, candidates, exposure


@dataclass(frozen=True)
class Story:
    """One cascade: infections (time, node) in order, and when watching ended."""

    events: list[tuple[float, int]]
    horizon: float

    def time(self, node: int) -> float:
        """Infection time of a node, infinite for one that was not infected."""
        return next((t for t, v in self.events if v == node), math.inf)

    def leaves(self, node: int, limit: int | None) -> float:
        """When a node stops acting: as soon as `limit` later infections have followed."""
        place = [v for _, v in self.events].index(node)
        if limit is None or place + limit >= len(self.events):
            return math.inf
        return self.events[place + limit][0]

    @property
    def start(self) -> float:
        return self.events[0][0] if self.events else self.horizon


def stories(cascades: Cascades) -> list[Story]:
    """Cascades as lists of (time, node)."""
    found = []
    for c in range(cascades.n_cascades):
        inside = range(cascades.offset[c], cascades.offset[c + 1])
        events = [(float(cascades.time[i]), int(cascades.node[i])) for i in inside]
        found.append(Story(sorted(events), float(cascades.horizon[c])))
    return found


def candidates(
    story: Story, child: int, limit: int | None, background: bool
) -> list[tuple[int, float]]:
    """Sources that may have infected a child, and the delay of each; none for a seed."""
    t_v = story.time(child)
    found = []
    for t_u, u in story.events:
        if t_u < t_v <= story.leaves(u, limit):
            found.append((u, t_v - t_u))
    if background and t_v > story.start:
        found.insert(0, (BACKGROUND, t_v - story.start))
    return found


def is_listed(tales: list[Story], source: int, child: int, limit: int | None) -> bool:
    """Whether the exposure of a pair may differ from that of a child the source never met."""
    for story in tales:
        t_u, t_v = story.time(source), story.time(child)
        if t_u < math.inf and t_v < math.inf and t_v <= story.leaves(source, limit):
            return True
    return False


def exposure(
    tales: list[Story],
    source: int,
    child: int,
    limit: int | None,
    cumulative: Callable[[float], float],
) -> float:
    """E_uv = sum over cascades of H(min(t_cv, T_c, s_cu) - t_cu), where t_cu < t_cv."""
    total = 0.0
    for story in tales:
        t_u, t_v = story.time(source), story.time(child)
        if t_u < t_v:
            total += cumulative(min(t_v, story.horizon, story.leaves(source, limit)) - t_u)
    return total


def background_exposure(tales: list[Story], child: int) -> float:
    """Time for which the outside could have infected a node: none where it was a seed."""
    return sum(min(s.time(child), s.horizon) - s.start for s in tales if s.time(child) > s.start)


# ------------------------------------------------------------------------------------------ parents


@dataclass(frozen=True)
class Infections:
    """What explains the infections: for each, in the order of updates, its candidates.

    `sources[i]` are the pairs that may have caused infection i (none for a seed), `hazards[i]`
    their hazard shapes; `shape[p]` and `rate[p]` belong to the pair's Gamma distributed rate, the
    exposure being part of `rate`. An explanation is a tuple: the position of each parent among the
    candidates, -1 for a seed.
    """

    sources: list[list]
    hazards: list[list[float]]
    shape: dict
    rate: dict

    def explanations(self) -> list[tuple[int, ...]]:
        return list(product(*(range(len(s)) if s else (-1,) for s in self.sources)))

    def counts(self, choice: Sequence[int], without: int | None = None) -> dict:
        """n of each pair, one infection left out."""
        found = defaultdict(int)
        for i, position in enumerate(choice):
            if position >= 0 and i != without:
                found[self.sources[i][position]] += 1
        return found

    def log_weight(self, choice: Sequence[int], reinforce: bool = True) -> float:
        """Log posterior up to a constant; without `reinforce` the tree likelihood's."""
        value = 0.0
        for i, position in enumerate(choice):
            if position >= 0:
                h = self.hazards[i][position]
                value += math.log(h) if h > 0.0 else -math.inf
        for pair, n in self.counts(choice).items():
            r = self.shape[pair]
            value += lgamma(r + n) - lgamma(r) if reinforce else n * math.log(r)
            value -= n * math.log(self.rate[pair])
        return value

    def weights(self, choice: Sequence[int], i: int, reinforce: bool = True) -> list[float]:
        """Gibbs weights of the candidates of infection i (3.1; without n: section 4)."""
        n = self.counts(choice, without=i)
        return [
            (self.shape[p] + (n[p] if reinforce else 0)) / self.rate[p] * h
            for p, h in zip(self.sources[i], self.hazards[i], strict=True)
        ]

    def swapped(self, choice: Sequence[int], i: int, other: int) -> tuple[int, ...]:
        """Exchange what i's parent and another of its candidates explain in this child (3.1b)."""
        u, w = self.sources[i][choice[i]], self.sources[i][other]
        new = list(choice)
        for j, position in enumerate(choice):
            if position < 0:
                continue
            parent = self.sources[j][position]
            if parent == u and w in self.sources[j]:
                new[j] = self.sources[j].index(w)
            elif parent == w and u in self.sources[j]:
                new[j] = self.sources[j].index(u)
        return tuple(new)


def typical_delay(tales: list[Story], n_nodes: int, limit: int | None, background: bool) -> float:
    """Median delay of all candidates, the internal unit of time; 1 where there are none."""
    delays = [
        delay
        for v in range(n_nodes)
        for story in tales
        if story.time(v) < math.inf
        for _, delay in candidates(story, v, limit, background)
    ]
    return float(median(delays)) if delays else 1.0


def infections(
    tales: list[Story],
    n_nodes: int,
    limit: int | None,
    background: bool,
    hazard: Callable[[float], float],
    shape: dict,
    rate: dict,
) -> Infections:
    """The infections of all cascades, child after child, their pairs being (source, child)."""
    sources, hazards = [], []
    for v in range(n_nodes):
        for story in tales:
            if story.time(v) < math.inf:
                found = candidates(story, v, limit, background)
                sources.append([(u, v) for u, _ in found])
                hazards.append([1.0 if u < 0 else hazard(delay) for u, delay in found])
    return Infections(sources, hazards, shape, rate)


def draw_parents(
    data: Infections, choice: Sequence[int], uniform: Sequence[float], reinforce: bool
) -> tuple[int, ...]:
    """One Gibbs pass over all infections."""
    new = list(choice)
    for i, sources in enumerate(data.sources):
        if sources:
            new[i] = first_above(data.weights(new, i, reinforce), uniform[i])
    return tuple(new)


def draw_swaps(
    data: Infections, choice: Sequence[int], uniform: Sequence[Sequence[float]]
) -> tuple[tuple[int, ...], int]:
    """One swap proposal for each infection with a choice; the result and how many were made."""
    choice, accepted = tuple(choice), 0
    for i, sources in enumerate(data.sources):
        others = [position for position in range(len(sources)) if position != choice[i]]
        if not others:
            continue
        other = others[min(int(uniform[i][0] * len(others)), len(others) - 1)]
        proposal = data.swapped(choice, i, other)
        log_ratio = data.log_weight(proposal) - data.log_weight(choice)
        if uniform[i][1] < math.exp(min(log_ratio, 0.0)):
            choice, accepted = proposal, accepted + 1
    return choice, accepted


def parent_kernel(
    data: Infections, i: int, choice: tuple[int, ...], reinforce: bool = True
) -> dict[tuple[int, ...], float]:
    """Outcomes of the Gibbs update of infection i and their probabilities."""
    if not data.sources[i]:
        return {choice: 1.0}
    weights = data.weights(choice, i, reinforce)
    return {
        (*choice[:i], position, *choice[i + 1 :]): weight / sum(weights)
        for position, weight in enumerate(weights)
    }


def swap_kernel(data: Infections, i: int, choice: tuple[int, ...]) -> dict:
    """Outcomes of the swap proposal that infection i makes and their probabilities."""
    others = [position for position in range(len(data.sources[i])) if position != choice[i]]
    outcomes = defaultdict(float)
    for other in others:
        proposal = data.swapped(choice, i, other)
        log_ratio = data.log_weight(proposal) - data.log_weight(choice)
        accept = math.exp(min(log_ratio, 0.0))
        outcomes[proposal] += accept / len(others)
        outcomes[choice] += (1.0 - accept) / len(others)
    return dict(outcomes) if others else {choice: 1.0}


# -------------------------------------------------------------------------- network, tables, tokens


def edge_probability(weight, sender, receiver, u: int, v: int) -> float:
    """p_uv = sum_k D_k A_ku B_kv, with `sender` and `receiver` indexed [node][community]."""
    return sum(float(d * a * b) for d, a, b in zip(weight, sender[u], receiver[v], strict=True))


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


def crt_distribution(n: int, r: float) -> list[float]:
    """P(l) for l = 0..n by adding one customer after the other."""
    distribution = [1.0]
    for m in range(n):
        opens = r / (r + m)
        stays = [(1.0 - opens) * p for p in distribution] + [0.0]
        distribution = [s + opens * p for s, p in zip(stays, [0.0, *distribution], strict=True)]
    return distribution


def thin_phantoms(community, sender, receiver, exposures: dict, b, bound, uniform):
    """Endpoints of phantom tokens and whether they stay; `exposures` of pairs, 0 where absent.

    `sender` and `receiver` are indexed [community][node].
    """
    tokens = []
    for k, (x, y, z) in zip(community, uniform, strict=True):
        u, v = first_above(list(sender[k]), x), first_above(list(receiver[k]), y)
        drop = math.log(1.0 + exposures.get((u, v), 0.0) / b) / bound
        tokens.append((u, v, z >= drop))
    return tokens


@dataclass(frozen=True)
class Tokens:
    """Tokens (sender, receiver) and the prior of their communities 0..K, 0 being the null.

    `prior` (K + 1) are the Dirichlet weights of the communities, `base` and `popularity` (N') the
    distributions of endpoints in the null and, times `tau`, the base measure of all others.
    An assignment is a tuple of communities.
    """

    pairs: list[tuple[int, int]]
    prior: list[float]
    base: list[float]
    tau: float
    popularity: list[float]

    def labels(self) -> list[int]:
        """Communities that can hold tokens."""
        return [k for k, weight in enumerate(self.prior) if weight > 0.0]

    def assignments(self) -> list[tuple[int, ...]]:
        return list(product(self.labels(), repeat=len(self.pairs)))

    def members(self, assignment: Sequence[int], k: int, without: int | None = None) -> list:
        return [pair for t, pair in enumerate(self.pairs) if assignment[t] == k and t != without]

    def predictive(self, k: int, pair: tuple[int, int], others: list) -> float:
        """P(pair | its community k, the community's other tokens)."""
        u, v = pair
        if k == 0:
            return self.base[u] * self.base[v]
        sent = sum(other[0] == u for other in others)
        received = sum(other[1] == v for other in others)
        size = len(others) + self.tau
        return (
            (sent + self.tau * self.popularity[u])
            * (received + self.tau * self.popularity[v])
            / size**2
        )

    def log_weight(self, assignment: Sequence[int]) -> float:
        """Log P(communities, endpoints) with D, A and B integrated out, normalised."""
        total, size = sum(self.prior), len(self.pairs)
        value = lgamma(total) - lgamma(total + size)
        for k in self.labels():
            members = self.members(assignment, k)
            value += lgamma(self.prior[k] + len(members)) - lgamma(self.prior[k])
            if k == 0:
                value += sum(math.log(self.base[u] * self.base[v]) for u, v in members)
                continue
            value += 2.0 * (lgamma(self.tau) - lgamma(self.tau + len(members)))
            for side in (0, 1):
                for node, share in enumerate(self.popularity):
                    n = sum(pair[side] == node for pair in members)
                    value += lgamma(self.tau * share + n) - lgamma(self.tau * share)
        return value

    def weights(self, assignment: Sequence[int], t: int) -> list[float]:
        """Gibbs weights of the communities of token t (3.5)."""
        found = [0.0] * len(self.prior)
        for k in self.labels():
            others = self.members(assignment, k, without=t)
            size = len(others) + self.prior[k]
            found[k] = size * self.predictive(k, self.pairs[t], others)
        return found


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


def token_kernel(tokens: Tokens, t: int, assignment: tuple[int, ...]) -> dict:
    """Outcomes of the Gibbs update of token t and their probabilities."""
    weights = tokens.weights(assignment, t)
    return {
        (*assignment[:t], k, *assignment[t + 1 :]): weight / sum(weights)
        for k, weight in enumerate(weights)
        if weight > 0.0
    }


# ---------------------------------------------------------------------------------- split and merge


def side_probability(
    tokens: Tokens, anchors: tuple[int, int], rest: Sequence[int], side: Sequence[int], x: int
) -> float:
    """P(side 1) of the x-th token that is no anchor, given where all others are (-1: nowhere)."""
    prior = tokens.prior[-1]
    weight = []
    for which in (0, 1):
        others = [tokens.pairs[anchors[which]]]
        others += [tokens.pairs[rest[y]] for y in range(len(rest)) if y != x and side[y] == which]
        predictive = tokens.predictive(1, tokens.pairs[rest[x]], others)
        weight.append((len(others) + prior) * predictive)
    return weight[1] / (weight[0] + weight[1])


def restricted_scan(tokens, anchors, rest, side, uniform, forced=None):
    """A pass over the tokens that are no anchors; where they end and its log probability."""
    side, log_probability = list(side), 0.0
    for x in range(len(rest)):
        p = side_probability(tokens, anchors, rest, side, x)
        side[x] = int(uniform[x] < p) if forced is None else forced[x]
        log_probability += math.log(p if side[x] == 1 else 1.0 - p)
    return side, log_probability


def scan_kernel(tokens, anchors, rest, side: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Outcomes of a restricted scan and their probabilities."""
    outcomes = {side: 1.0}
    for x in range(len(rest)):
        after = {}
        for partial, probability in outcomes.items():
            p = side_probability(tokens, anchors, rest, partial, x)
            after[(*partial[:x], 0, *partial[x + 1 :])] = probability * (1.0 - p)
            after[(*partial[:x], 1, *partial[x + 1 :])] = probability * p
        outcomes = after
    return outcomes


def split_merge_kernel(
    tokens: Tokens, assignment: tuple[int, ...], scans: int, label_choice: bool = True
) -> dict[tuple[int, ...], float]:
    """Outcomes of one split-merge proposal and their probabilities (3.6 i).

    `scans` restricted passes make the launch state, one more the proposal. `label_choice=False`
    forgets that a split chooses its label: a mistake for tests to find.
    """
    grouped = [t for t, k in enumerate(assignment) if k > 0]
    outcomes = defaultdict(float)
    if len(grouped) < 2:
        return {assignment: 1.0}
    for i, j in product(grouped, repeat=2):
        chance = 1.0 / len(grouped) ** 2
        if i == j:
            outcomes[assignment] += chance
            continue
        for new, probability in _proposals(tokens, assignment, i, j, scans, label_choice).items():
            outcomes[new] += chance * probability
    return dict(outcomes)


def _proposals(tokens, assignment, i, j, scans, label_choice) -> dict[tuple[int, ...], float]:
    a, c = assignment[i], assignment[j]
    empty = [k for k in range(1, len(tokens.prior)) if k not in assignment]
    if a == c and not empty:
        return {assignment: 1.0}
    rest = [t for t, k in enumerate(assignment) if k in (a, c) and t not in (i, j)]
    launch = {(-1,) * len(rest): 1.0}
    for _ in range(scans):
        after = defaultdict(float)
        for side, probability in launch.items():
            for new, step in scan_kernel(tokens, (i, j), rest, side).items():
                after[new] += probability * step
        launch = after
    outcomes = defaultdict(float)
    here = tokens.log_weight(assignment)
    for side, chance in launch.items():
        final = scan_kernel(tokens, (i, j), rest, side)
        if a == c:
            ways = len(empty) if label_choice else 1
            for (ended, q), label in product(final.items(), empty):
                moved = {j} | {t for t, where in zip(rest, ended, strict=True) if where == 1}
                new = tuple(label if t in moved else k for t, k in enumerate(assignment))
                accept = min(1.0, math.exp(tokens.log_weight(new) - here) * ways / q)
                outcomes[new] += chance * q / len(empty) * accept
                outcomes[assignment] += chance * q / len(empty) * (1.0 - accept)
        else:
            ways = len(empty) + 1 if label_choice else 1
            q = final[tuple(int(assignment[t] == c) for t in rest)]
            new = tuple(a if k in (a, c) else k for k in assignment)
            accept = min(1.0, math.exp(tokens.log_weight(new) - here) * q / ways)
            outcomes[new] += chance * accept
            outcomes[assignment] += chance * (1.0 - accept)
    return outcomes


# ------------------------------------------------------------------------------------- running sums


def accumulate(draws: list[list[tuple[float, float, int]]], unit: float) -> list[dict[str, float]]:
    """Sums over draws of each pair's (shape, rate, n): see `_kernels.accumulate`."""
    sums = []
    for pair in zip(*draws, strict=True):
        moments = [((r + n) / b, (r + n) * (r + n + 1) / b**2, n) for r, b, n in pair]
        used = [moment for moment in moments if moment[2] > 0]
        sums.append(
            {
                "hits": len(used),
                "n_sum": sum(n for *_, n in used),
                "mean_sum": unit * sum(mean for mean, *_ in moments),
                "square_sum": unit**2 * sum(square for _, square, _ in moments),
                "mean_hit": unit * sum(mean for mean, *_ in used),
                "square_hit": unit**2 * sum(square for _, square, _ in used),
            }
        )
    return sums


# -------------------------------------------------------------------------------------------- cases


def cascades_of(tales: list[Story], n_nodes: int) -> Cascades:
    """The inverse of `stories`."""
    events = [sorted(story.events) for story in tales]
    return Cascades.from_arrays(
        range(n_nodes),
        [0, *accumulate_sum(len(e) for e in events)],
        [v for e in events for _, v in e],
        [t for e in events for t, _ in e],
        [story.horizon for story in tales],
    )


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
