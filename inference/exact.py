"""Discrete updates restated as transition probabilities, with no regard to cost.

Nothing here uses the sampler, its data layout or compiled code. Counts are made afresh wherever
they are needed, exposures are summed over cascades as they are defined, densities are written out
in full. A law is a dict from states to probabilities, a kernel takes a state to a law. The problems
they are meant for are so small that all states can be listed: see `enumeration`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from statistics import median
from typing import Any

from scipy.special import ndtr

from cascadenet.cascades import Cascades

BACKGROUND = -1  # source of infections from outside
Labels = tuple[int, ...]
Law = dict[Any, float]
Pair = tuple[int, int]
lgamma = math.lgamma


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
        """When a node stops acting: as soon as ``limit`` later infections have followed."""
        place = [v for _, v in self.events].index(node)
        if limit is None or place + limit >= len(self.events):
            return math.inf
        return self.events[place + limit][0]

    @property
    def start(self) -> float:
        """Time of the first infection; the horizon where there is none."""
        return self.events[0][0] if self.events else self.horizon


def cascades_of(tales: Sequence[Story], n_nodes: int) -> Cascades:
    """Cascades of nodes 0..N-1 that the stories tell."""
    events = [sorted(story.events) for story in tales]
    return Cascades.from_arrays(
        range(n_nodes),
        [0, *accumulate(len(e) for e in events)],
        [v for e in events for _, v in e],
        [t for e in events for t, _ in e],
        [story.horizon for story in tales],
    )


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


def exposure(
    tales: Sequence[Story],
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


def background_exposure(tales: Sequence[Story], child: int) -> float:
    """Time for which the outside could have infected a node: none where it was a seed."""
    return sum(min(s.time(child), s.horizon) - s.start for s in tales if s.time(child) > s.start)


def typical_delay(
    tales: Sequence[Story], n_nodes: int, limit: int | None, background: bool
) -> float:
    """Median delay of all candidates, the internal unit of time; 1 where there are none."""
    delays = [
        delay
        for v in range(n_nodes)
        for story in tales
        if story.time(v) < math.inf
        for _, delay in candidates(story, v, limit, background)
    ]
    return float(median(delays)) if delays else 1.0


def edge_probability(
    weight: Sequence[float],
    sender: Sequence[Sequence[float]],
    receiver: Sequence[Sequence[float]],
    u: int,
    v: int,
) -> float:
    """p_uv = sum_k D_k A_ku B_kv, with ``sender`` and ``receiver`` indexed [node][community]."""
    return sum(float(d * a * b) for d, a, b in zip(weight, sender[u], receiver[v], strict=True))


# ------------------------------------------------------------------------------------------ parents


@dataclass(frozen=True)
class Infections:
    """What explains the infections: for each, in the order of updates, its candidates.

    ``sources[i]`` are the pairs that may have caused infection i (none for a seed), ``hazards[i]``
    their hazard shapes, ``child[i]`` its node; ``shape[p]`` and ``rate[p]`` belong to the pair's
    Gamma distributed rate, what is remembered being part of both and the exposure part of ``rate``.
    An explanation is a tuple: the position of each parent among the candidates, -1 for a seed.
    """

    sources: list[list[Pair]]
    hazards: list[list[float]]
    shape: dict[Pair, float]
    rate: dict[Pair, float]
    child: list[int]

    def explanations(self) -> list[Labels]:
        """All states."""
        return list(product(*(range(len(s)) if s else (-1,) for s in self.sources)))

    def counts(self, choice: Sequence[int], without: int | None = None) -> dict[Pair, int]:
        """n of each pair, one infection left out."""
        found: dict[Pair, int] = defaultdict(int)
        for i, position in enumerate(choice):
            if position >= 0 and i != without:
                found[self.sources[i][position]] += 1
        return found

    def log_weight(self, choice: Sequence[int], reinforce: bool = True) -> float:
        """Log posterior up to a constant; without ``reinforce`` the tree likelihood's."""
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
        """Gibbs weights of the candidates of infection i; without n: the tree likelihood's."""
        n = self.counts(choice, without=i)
        return [
            (self.shape[p] + (n[p] if reinforce else 0)) / self.rate[p] * h
            for p, h in zip(self.sources[i], self.hazards[i], strict=True)
        ]

    def involved(self, choice: Sequence[int], i: int, other: int) -> int:
        """How many infections the two sources of such an exchange explain, before and after."""
        n = self.counts(choice)
        return n[self.sources[i][choice[i]]] + n[self.sources[i][other]]

    def swapped(self, choice: Sequence[int], i: int, other: int) -> Labels:
        """Exchange what i's parent and another of its candidates explain in this child."""
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


def infections(
    tales: Sequence[Story],
    n_nodes: int,
    limit: int | None,
    background: bool,
    hazard: Callable[[float], float],
    shape: dict[Pair, float],
    rate: dict[Pair, float],
) -> Infections:
    """The infections of all cascades, child after child, their pairs being (source, child)."""
    sources, hazards, child = [], [], []
    for v in range(n_nodes):
        for story in tales:
            if story.time(v) < math.inf:
                child.append(v)
                found = candidates(story, v, limit, background)
                sources.append([(u, v) for u, _ in found])
                hazards.append([1.0 if u < 0 else hazard(delay) for u, delay in found])
    return Infections(sources, hazards, shape, rate, child)


def parent_kernel(data: Infections, i: int, choice: Labels, reinforce: bool = True) -> Law:
    """Outcomes of the Gibbs update of infection i and their probabilities."""
    if not data.sources[i]:
        return {choice: 1.0}
    weights = data.weights(choice, i, reinforce)
    return {
        (*choice[:i], position, *choice[i + 1 :]): weight / sum(weights)
        for position, weight in enumerate(weights)
    }


def proposal_weights(
    data: Infections, i: int, choice: Labels, prior: Sequence[float]
) -> list[float]:
    """Weights with which the candidates of infection i are proposed: n / rate h, plus ``prior``."""
    n = data.counts(choice, without=i)
    return [
        n[p] / data.rate[p] * h + more
        for p, h, more in zip(data.sources[i], data.hazards[i], prior, strict=True)
    ]


def metropolis_kernel(data: Infections, i: int, choice: Labels, prior: Sequence[float]) -> Law:
    """Outcomes of a proposal by `proposal_weights`, accepted so that the posterior stays."""
    if not data.sources[i]:
        return {choice: 1.0}
    target, weight = data.weights(choice, i), proposal_weights(data, i, choice, prior)
    here = choice[i]
    outcomes: Law = defaultdict(float)
    for there, proposed in enumerate(weight):
        ratio = 1.0
        if target[here] > 0.0:
            ratio = target[there] * weight[here] / (target[here] * proposed)
        outcomes[(*choice[:i], there, *choice[i + 1 :])] += proposed / sum(weight) * min(ratio, 1.0)
    outcomes[choice] += 1.0 - sum(outcomes.values())
    return dict(outcomes)


def swap_kernel(data: Infections, i: int, choice: Labels, patience: float) -> Law:
    """Outcomes of the swap proposal that infection i makes and their probabilities.

    Where more than ``patience`` infections are involved only such a share of them is tried.
    """
    count = len(data.sources[i])
    outcomes: Law = defaultdict(float)
    for other in range(count):
        proposal = choice if other == choice[i] else data.swapped(choice, i, other)
        log_ratio = data.log_weight(proposal) - data.log_weight(choice)
        accept = math.exp(min(log_ratio, 0.0))
        if other != choice[i]:
            accept *= min(1.0, patience / data.involved(choice, i, other))
        outcomes[proposal] += accept / count
        outcomes[choice] += (1.0 - accept) / count
    return dict(outcomes) if count else {choice: 1.0}


# ---------------------------------------------------------------------------- memories of the pairs


@dataclass(frozen=True)
class Memories:
    """Remembered pairs whose S memories are in force or not, and what is known of them now.

    With no memory in force the rate of pair r has prior ``Gamma(shape[r], rate[r])``; memory s adds
    ``old_n[s][r]`` and ``old_exposure[s][r]``. ``n[r]`` transmissions were seen in ``exposure[r]``.
    A state is a tuple of flags, memory after memory.
    """

    n: list[int]
    exposure: list[float]
    shape: list[float]
    rate: list[float]
    old_n: list[list[float]]
    old_exposure: list[list[float]]
    persistence: float

    def states(self) -> list[tuple[bool, ...]]:
        """All states."""
        return list(product((False, True), repeat=len(self.old_n) * len(self.n)))

    def log_weight(self, kept: Sequence[bool]) -> float:
        """Log posterior up to a constant, rates integrated out."""
        size = len(self.n)
        value = sum(math.log(self.persistence if x else 1.0 - self.persistence) for x in kept)
        for r in range(size):
            used = [s for s in range(len(self.old_n)) if kept[s * size + r]]
            a = self.shape[r] + sum(self.old_n[s][r] for s in used)
            b = self.rate[r] + sum(self.old_exposure[s][r] for s in used)
            value += lgamma(a + self.n[r]) - lgamma(a) + a * math.log(b)
            value -= (a + self.n[r]) * math.log(b + self.exposure[r])
        return value


def memory_kernel(memories: Memories, x: int, kept: tuple[bool, ...]) -> Law:
    """Outcomes of the Gibbs update of one flag and their probabilities."""
    both = [(*kept[:x], flag, *kept[x + 1 :]) for flag in (False, True)]
    weights = [math.exp(memories.log_weight(state)) for state in both]
    return {state: w / sum(weights) for state, w in zip(both, weights, strict=True)}


# ------------------------------------------------------------------------------------------- tables


def crt_distribution(n: int, r: float) -> list[float]:
    """P(l) for l = 0..n by adding one customer after the other."""
    distribution = [1.0]
    for m in range(n):
        opens = r / (r + m)
        stays = [(1.0 - opens) * p for p in distribution] + [0.0]
        distribution = [s + opens * p for s, p in zip(stays, [0.0, *distribution], strict=True)]
    return distribution


def new_tables(n: int, r: float, remembered: float) -> list[float]:
    """P(l), l = 0..n: of ``CRT(n, r + remembered)`` tables each is due to r by r's share."""
    found, share = [0.0] * (n + 1), r / (r + remembered)
    for tables, p in enumerate(crt_distribution(n, r + remembered)):
        for l in range(tables + 1):  # noqa: E741
            found[l] += p * math.comb(tables, l) * share**l * (1.0 - share) ** (tables - l)
    return found


def seatings(n: int) -> Iterator[list[int]]:
    """All ways to seat n customers at tables, as the sizes of the tables."""
    if n == 0:
        yield []
        return
    for sizes in seatings(n - 1):
        for x in range(len(sizes)):
            yield [*sizes[:x], sizes[x] + 1, *sizes[x + 1 :]]
        yield [*sizes, 1]


def table_posterior(n: int, r: float, remembered: float) -> Law:
    """P(l) by listing all seatings of n customers and all owners of their tables.

    A table of the network weighs r and one of memory ``remembered``, times the ways to sit down.
    """
    weight: Law = defaultdict(float)
    for sizes in seatings(n):
        ways = math.prod(math.factorial(size - 1) for size in sizes)
        for owners in product((True, False), repeat=len(sizes)):
            weight[sum(owners)] += ways * math.prod(r if own else remembered for own in owners)
    total = sum(weight.values())
    return {tables: weight[tables] / total for tables in range(n + 1)}


# ------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Tokens:
    """Tokens (sender, receiver) and the prior of their communities 0..K, 0 being the null.

    ``prior`` (K + 1) are the Dirichlet weights of the communities, ``base`` and ``popularity`` (N')
    the distributions of endpoints in the null and, times ``tau``, the base measure of all others.
    ``memory``: pseudo-counts of earlier tokens by community [k], and by sender and by receiver
    [node][k]. An assignment is a tuple of communities.
    """

    pairs: list[Pair]
    prior: list[float]
    base: list[float]
    tau: float
    popularity: list[float]
    memory: tuple[list[float], list[list[float]], list[list[float]]] | None = None

    def labels(self) -> list[int]:
        """Communities that can hold tokens."""
        return [k for k, weight in enumerate(self.prior) if weight > 0.0]

    def assignments(self) -> list[Labels]:
        """All states."""
        return list(product(self.labels(), repeat=len(self.pairs)))

    def members(self, assignment: Sequence[int], k: int, without: int | None = None) -> list[Pair]:
        """Tokens of a community, one token left out."""
        return [pair for t, pair in enumerate(self.pairs) if assignment[t] == k and t != without]

    def mass(self, k: int) -> float:
        """Dirichlet weight of a community, what it remembers included."""
        return self.prior[k] + (self.memory[0][k] if self.memory else 0.0)

    def smoothing(self, k: int, side: int) -> list[float]:
        """Dirichlet weights of a community's senders (0) or receivers (1), likewise."""
        old = [row[k] for row in self.memory[1 + side]] if self.memory else [0.0] * len(self.base)
        return [self.tau * share + x for share, x in zip(self.popularity, old, strict=True)]

    def predictive(self, k: int, pair: Pair, others: Sequence[Pair]) -> float:
        """P(pair | its community k, the community's other tokens)."""
        if k == 0:
            return self.base[pair[0]] * self.base[pair[1]]
        value = 1.0
        for side, node in enumerate(pair):
            prior = self.smoothing(k, side)
            seen = sum(other[side] == node for other in others)
            value *= (seen + prior[node]) / (len(others) + sum(prior))
        return value

    def log_weight(self, assignment: Sequence[int]) -> float:
        """Log P(communities, endpoints) with D, A and B integrated out, normalised."""
        total, size = sum(self.mass(k) for k in self.labels()), len(self.pairs)
        value = lgamma(total) - lgamma(total + size)
        for k in self.labels():
            members = self.members(assignment, k)
            value += lgamma(self.mass(k) + len(members)) - lgamma(self.mass(k))
            if k == 0:
                value += sum(math.log(self.base[u] * self.base[v]) for u, v in members)
                continue
            for side in (0, 1):
                prior = self.smoothing(k, side)
                value += lgamma(sum(prior)) - lgamma(sum(prior) + len(members))
                for node, share in enumerate(prior):
                    n = sum(pair[side] == node for pair in members)
                    value += lgamma(share + n) - lgamma(share)
        return value

    def weights(self, assignment: Sequence[int], t: int) -> list[float]:
        """Gibbs weights of the communities of token t."""
        found = [0.0] * len(self.prior)
        for k in self.labels():
            others = self.members(assignment, k, without=t)
            found[k] = (len(others) + self.mass(k)) * self.predictive(k, self.pairs[t], others)
        return found


def token_kernel(tokens: Tokens, t: int, assignment: Labels) -> Law:
    """Outcomes of the Gibbs update of token t and their probabilities."""
    weights = tokens.weights(assignment, t)
    return {
        (*assignment[:t], k, *assignment[t + 1 :]): weight / sum(weights)
        for k, weight in enumerate(weights)
        if weight > 0.0
    }


# ---------------------------------------------------------------------------------- split and merge


def side_probability(
    tokens: Tokens,
    anchors: Pair,
    rest: Sequence[int],
    side: Sequence[int],
    x: int,
    labels: Pair = (1, 1),
) -> float:
    """P(side 1) of the x-th token that is no anchor, given where all others are (-1: nowhere).

    ``labels``: communities of the two sides, which matter for what these remember.
    """
    weight = []
    for which in (0, 1):
        others = [tokens.pairs[anchors[which]]]
        others += [tokens.pairs[rest[y]] for y in range(len(rest)) if y != x and side[y] == which]
        predictive = tokens.predictive(labels[which], tokens.pairs[rest[x]], others)
        weight.append((len(others) + tokens.mass(labels[which])) * predictive)
    return weight[1] / (weight[0] + weight[1])


def scan_kernel(
    tokens: Tokens, anchors: Pair, rest: Sequence[int], side: Labels, labels: Pair = (1, 1)
) -> Law:
    """Outcomes of a restricted scan and their probabilities."""
    outcomes = {side: 1.0}
    for x in range(len(rest)):
        after: Law = defaultdict(float)
        for partial, probability in outcomes.items():
            p = side_probability(tokens, anchors, rest, partial, x, labels)
            after[(*partial[:x], 0, *partial[x + 1 :])] += probability * (1.0 - p)
            after[(*partial[:x], 1, *partial[x + 1 :])] += probability * p
        outcomes = after
    return outcomes


def split_merge_kernel(tokens: Tokens, assignment: Labels, scans: int, forget: str = "") -> Law:
    """Outcomes of one split-merge proposal and their probabilities.

    ``scans`` restricted passes make the launch state, one more the proposal. ``forget`` leaves
    something out of the ratio, a mistake for tests to find: ``"label"``, that a split chooses its
    label, or ``"proposal"``, the probability of the last pass.
    """
    grouped = [t for t, k in enumerate(assignment) if k > 0]
    outcomes: Law = defaultdict(float)
    if len(grouped) < 2:
        return {assignment: 1.0}
    for i, j in product(grouped, repeat=2):
        chance = 1.0 / len(grouped) ** 2
        if i == j:
            outcomes[assignment] += chance
            continue
        for new, probability in _proposals(tokens, assignment, i, j, scans, forget).items():
            outcomes[new] += chance * probability
    return dict(outcomes)


def _proposals(tokens: Tokens, assignment: Labels, i: int, j: int, scans: int, forget: str) -> Law:
    """Outcomes where tokens i and j are to be parted or their communities joined."""
    a, c = assignment[i], assignment[j]
    empty = [k for k in range(1, len(tokens.prior)) if k not in assignment]
    if a == c and not empty:
        return {assignment: 1.0}
    rest = [t for t, k in enumerate(assignment) if k in (a, c) and t not in (i, j)]
    outcomes: Law = defaultdict(float)
    here = tokens.log_weight(assignment)

    def propose(new: Labels, chance: float, factor: float) -> None:
        accept = min(1.0, math.exp(tokens.log_weight(new) - here) * factor)
        outcomes[new] += chance * accept
        outcomes[assignment] += chance * (1.0 - accept)

    if a == c:
        ways = 1 if forget == "label" else len(empty)
        for label in empty:
            for side, chance in _launch(tokens, (i, j), rest, scans, (a, label)).items():
                for ended, q in scan_kernel(tokens, (i, j), rest, side, (a, label)).items():
                    moved = {j} | {t for t, where in zip(rest, ended, strict=True) if where == 1}
                    new = tuple(label if t in moved else k for t, k in enumerate(assignment))
                    propose(
                        new, chance * q / len(empty), ways / (1.0 if forget == "proposal" else q)
                    )
        return outcomes
    ways = 1 if forget == "label" else len(empty) + 1
    joined = tuple(a if k in (a, c) else k for k in assignment)
    parted = tuple(int(assignment[t] == c) for t in rest)
    for side, chance in _launch(tokens, (i, j), rest, scans, (a, c)).items():
        q = scan_kernel(tokens, (i, j), rest, side, (a, c))[parted]
        propose(joined, chance, (1.0 if forget == "proposal" else q) / ways)
    return outcomes


def _launch(tokens: Tokens, anchors: Pair, rest: Sequence[int], scans: int, labels: Pair) -> Law:
    """Law of the state that so many restricted scans lead to from nowhere."""
    launch: Law = {(-1,) * len(rest): 1.0}
    for _ in range(scans):
        after: Law = defaultdict(float)
        for side, probability in launch.items():
            for new, step in scan_kernel(tokens, anchors, rest, side, labels).items():
                after[new] += probability * step
        launch = after
    return launch


# ---------------------------------------------------------------------------------------- machinery

Kernel = Callable[[Any], Law]


def posterior(states: Sequence[Hashable], log_weight: Callable[[Any], float]) -> Law:
    """Probabilities of all states."""
    logs = [log_weight(state) for state in states]
    weights = [math.exp(x - max(logs)) for x in logs]
    total = math.fsum(weights)
    return {state: w / total for state, w in zip(states, weights, strict=True)}


def push(law: Law, *kernels: Kernel) -> Law:
    """Law after kernels have been applied in turn."""
    for kernel in kernels:
        after: Law = defaultdict(float)
        for state, mass in law.items():
            for new, probability in kernel(state).items():
                after[new] += mass * probability
        law = after
    return dict(law)


def distance(one: Law, other: Law) -> float:
    """Largest difference of the probability of any state."""
    return max(abs(one.get(s, 0.0) - other.get(s, 0.0)) for s in one.keys() | other.keys())
