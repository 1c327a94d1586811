"""Scores of next-infection predictions: restated in plain Python, ties, ends, bad models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadenet import Cascades
from cascadenet.inference.next_infection import NextInfection
from cascadenet.next_scores import rank_scores, score_next, separate_ties, strictly_past
from cascadenet.plots_next import plot_hits

NODES = tuple("abcdefgh")


class Table:
    """A model that says what a dictionary from prefix to weights says."""

    def __init__(self, weight):
        self.nodes, self.weight, self.asked = NODES, weight, []

    def scores(self, nodes, times):
        self.asked.append((tuple(nodes), tuple(times)))
        at_risk = np.array([label not in set(nodes) for label in self.nodes])
        weight = np.array(self.weight(tuple(nodes)), float) * at_risk
        return weight / (weight.sum() or 1.0)

    def end_probability(self, length):
        return 1.0 / (length + 3.0)


def data_of(*sequences) -> Cascades:
    rows = [(c, v, float(c + i)) for c, one in enumerate(sequences) for i, v in enumerate(one)]
    frame = pd.DataFrame(rows, columns=["cascade", "node", "time"])
    return Cascades.from_frame(frame, nodes=NODES, horizon=100.0)


def naive_scores(model, sequences, cuts=(1, 2, 5), end=False):
    """Means over targets, by sorting nobody: each rank is counted out."""
    ranks, probs, tops = [], [], []
    for one in sequences:
        last = len(one) if end else len(one) - 1
        for place in range(1, last + 1):
            prefix = tuple(one[:place])
            score = dict(zip(NODES, model.scores(prefix, range(place)), strict=True))
            score = {v: p for v, p in score.items() if v not in prefix}
            if end:
                over = model.end_probability(place)
                score = {v: p * (1 - over) for v, p in score.items()} | {"end": over}
            target = one[place] if place < len(one) else "end"
            others = [p for v, p in score.items() if v != target]
            p = score[target]
            ranks.append(1 + sum(x > p for x in others) + sum(x == p for x in others) / 2)
            probs.append(p)
            tops.append(max(score.values()))
    n = len(ranks)
    result = {f"hits@{k}": sum(r <= k for r in ranks) / n for k in cuts}
    result |= {f"map@{k}": sum(1 / r for r in ranks if r <= k) / n for k in cuts}
    result["nll"] = sum(-math.log(p) if p else math.inf for p in probs) / n
    result["mean_rank"] = sum(ranks) / n
    result["top1_accuracy"] = sum(r == 1 for r in ranks) / n
    result["top1_confidence"] = sum(tops) / n
    return result


sequences_st = st.lists(
    st.lists(st.sampled_from(NODES), min_size=2, max_size=8, unique=True), min_size=1, max_size=5
)
weights_st = st.lists(st.integers(0, 4), min_size=8, max_size=8)


@given(sequences_st, weights_st, weights_st, st.booleans())
def test_scores_equal_the_definition(sequences, odd, even, end):
    """Small integer weights: ties and zeros are frequent."""
    model = Table(lambda prefix: odd if len(prefix) % 2 else even)
    got = score_next(model, data_of(*sequences), k=(1, 2, 5), end=end, bootstrap=2)
    expected = naive_scores(model, sequences, end=end)
    assert dict(got) == pytest.approx(expected)


def test_ties_share_their_middle_place():
    """One target tied with two others below one: 1 + 1 + 2 / 2 = 3."""
    model = Table(lambda prefix: [0, 9, 4, 4, 4, 1, 1, 1])
    score = score_next(model, data_of("ac"), k=(2, 3))
    assert score.positions.rank.tolist() == [3.0]
    assert score["hits@2"] == 0.0
    assert score["hits@3"] == 1.0
    assert score["map@3"] == pytest.approx(1 / 3)
    pair = score_next(Table(lambda prefix: [0, 9, 4, 4, 1, 1, 1, 1]), data_of("ac"), k=(2, 3))
    assert pair.positions.rank.tolist() == [2.5]  # not a hit at 2


def test_the_impossible_ranks_among_the_impossible_at_risk():
    """Targets of probability zero tie with all others at risk of zero, not with the infected."""
    model = Table(lambda prefix: [0, 1, 0, 0, 0, 0, 0, 0])
    score = score_next(model, data_of("ac"), k=(1,), bootstrap=2)
    assert score.positions.rank.tolist() == [1 + 1 + 5 / 2]
    assert score["nll"] == math.inf
    assert math.isnan(score.errors["nll"])


def test_a_model_that_knows_nothing_ranks_everything_in_the_middle():
    score = score_next(Table(lambda prefix: [1] * 8), data_of("abcd", "hg"))
    assert score.positions.rank.tolist() == [4.0, 3.5, 3.0, 4.0]
    assert score["nll"] == pytest.approx(np.log([7, 6, 5, 7]).mean())


def test_prefixes_are_asked_with_their_times():
    model = Table(lambda prefix: [1] * 8)
    score_next(model, data_of("ab", "cde", "f"))
    expected = [(("a",), (0.0,)), (("c",), (1.0,)), (("c", "d"), (1.0, 2.0))]
    assert model.asked == expected


def test_all_prefixes_at_once_score_the_same():
    data = data_of("abcde", "bcdef", "acegh", "hgfed", "abced")
    model = NextInfection(communities=0).fit(data)

    class Slow:
        nodes, scores = model.nodes, staticmethod(model.scores)

    fast, slow = (score_next(x, data, k=(1, 3)) for x in (model, Slow()))
    assert dict(fast) == dict(slow)
    assert fast.errors == slow.errors


def test_online_learns_each_cascade_after_predicting_it():
    """The third cascade is the second again: only an online model has seen it. The first never."""
    train, test = data_of("abcd"), data_of("efgh", "ehgf", "ehgf")
    model = NextInfection(communities=0).fit(train)
    before = model.scores(["e"], [0.0]).tobytes()
    frozen, online = (score_next(model, test, online=x).positions for x in (False, True))
    first, second, third = (online.cascade == c for c in range(3))
    np.testing.assert_array_equal(online.prob[first], frozen.prob[first])
    assert online.prob[third].mean() > online.prob[second].mean() > frozen.prob[second].mean()
    assert model.scores(["e"], [0.0]).tobytes() == before  # the model passed did not learn
    by_hand = NextInfection(communities=0).fit(train)
    by_hand.partial_fit(test.subset([0])).partial_fit(test.subset([1]))
    expected = by_hand.scores(["e", "h"], [2.0, 3.0])[NODES.index("g")]
    assert online.prob[third][1] == expected


def test_standard_errors_cover(seed):
    """Cascades of equal targets: the error is that of a mean of independent cascades.

    The bootstrap's own noise is 2% of a standard deviation with 2000 resamples; 10% is 5 of them.
    """
    rng = np.random.default_rng(seed)
    weights = rng.permutation(8) + 1.0
    sequences = ["".join(rng.permutation(list(NODES))[:4]) for _ in range(60)]
    score = score_next(Table(lambda prefix: weights), data_of(*sequences), k=(2,), bootstrap=2000)
    by_cascade = score.positions.rank.reshape(60, 3).mean(axis=1)
    assert score.errors["mean_rank"] == pytest.approx(by_cascade.std() / math.sqrt(60), rel=0.1)
    naive = score.positions.rank.std() / math.sqrt(180)  # targets are not independent
    assert abs(score.errors["mean_rank"] / naive - 1.0) > 0.02


def test_errors_are_determined_by_their_seed():
    model, data = Table(lambda prefix: range(8)), data_of("abc", "hgf", "cde")
    assert score_next(model, data).errors == score_next(model, data).errors
    assert score_next(model, data, seed=1).errors != score_next(model, data, seed=2).errors
    assert all(math.isnan(x) for x in score_next(model, data_of("abc")).errors.values())


def test_the_table_is_tidy():
    score = score_next(Table(lambda prefix: range(8)), data_of("abc", "hgf"), k=(2, 4, 2))
    table = score.table
    assert list(table.columns) == ["metric", "k", "value", "se"]
    names = [f"{m}@{k}" if k else m for m, k in zip(table["metric"], table["k"], strict=True)]
    assert names == list(score)
    assert table["value"].tolist() == list(score.values())
    assert len(str(score).splitlines()) == len(score) + 1
    assert rank_scores(score.positions, (2, 4)) == dict(score)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda m: np.ones(3), "must have shape"),
        (lambda m: -np.ones(8), "must not be negative or nan; got -1"),
        (lambda m: np.full(8, np.nan), "must not be negative or nan; got nan"),
        (lambda m: np.full(8, 0.1), "must be zero for nodes that are infected"),
    ],
)
def test_models_that_break_their_word_are_refused(scores, message):
    class Wrong:
        nodes = NODES

        def scores(self, nodes, times):
            return scores(len(nodes))

    with pytest.raises(ValueError, match=message):
        score_next(Wrong(), data_of("abc"))


def test_arguments_are_checked():
    model, data = Table(lambda prefix: [1] * 8), data_of("abc")
    with pytest.raises(TypeError, match="model must have partial_fit; Table has none"):
        score_next(model, data, online=True)
    with pytest.raises(TypeError, match="cascades must be a Cascades; got DataFrame"):
        score_next(model, data.to_frame())
    with pytest.raises(ValueError, match="k must be a whole number"):
        score_next(model, data, k=(0,))
    with pytest.raises(ValueError, match="got none with two infections"):
        score_next(model, data_of("a", "b"))
    model.nodes = NODES[:2]
    with pytest.raises(ValueError, match="nodes of the model; got 'c'"):
        score_next(model, data)


def test_strictly_past_cuts_at_the_instant():
    data = data_of("abc", "de", "fgh")  # cascade c at c, c + 1, ...
    past, share = strictly_past(data, 2.0)
    assert past.labels == (0, 1)
    assert past.to_frame()["node"].tolist() == ["a", "b", "d"]
    assert share == pytest.approx(5 / 8)
    assert (past.horizon == 2.0).all()
    assert past.nodes == data.nodes
    with pytest.raises(ValueError, match="before must lie after"):
        strictly_past(data, 0.0)


def test_separated_ties_keep_the_order_of_rows():
    frame = pd.DataFrame(
        {"cascade": [7, 3, 7, 7, 3, 7], "node": list("dbacab"), "time": [5.0, 1, 5, 2, 1, 5]}
    )
    cascades = Cascades.from_frame(separate_ties(frame), horizon=9.0)
    nodes = [cascades.nodes[v] for v in cascades.node]
    assert nodes == ["c", "d", "a", "b", "b", "a"]
    plain = Cascades.from_frame(frame, horizon=9.0)
    assert [plain.nodes[v] for v in plain.node] == ["c", "a", "b", "d", "a", "b"]
    assert np.abs(cascades.time - plain.time).max() < 1e-14
    assert frame["time"].tolist() == [5.0, 1, 5, 2, 1, 5]  # left alone
    with pytest.raises(ValueError, match="no column 'cascade'"):
        separate_ties(frame.drop(columns="cascade"))


def test_plot_hits_draws_the_scores():
    data = data_of("abcde", "bcdef", "acegh", "hgfed")
    one = score_next(Table(lambda prefix: range(8)), data, k=(10,))
    two = score_next(Table(lambda prefix: range(8, 0, -1)), data, k=(10,))
    ax = plot_hits({"up": one, "down": two}, k_max=12)
    curve = ax.lines[0]
    expected = [100 * np.mean(one.positions.rank <= k) for k in range(1, 13)]
    np.testing.assert_allclose(curve.get_ydata(), expected)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["up", "down"]
    assert plot_hits(one, ax=ax) is ax
    with pytest.raises(ValueError, match="table must hold a result"):
        plot_hits({})
