"""A report on a run: one HTML page that needs nothing else, not even a script.

Pictures are in the page itself, styles too, and it asks browsers to load nothing from elsewhere.
Whatever comes from the data is escaped.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from cascadenet.cascades import Cascades
    from cascadenet.evolution import DynamicPosterior
    from cascadenet.posterior import Posterior

__all__ = ["make_report"]

BEST = 25  # rows of the tables of edges
RHAT_LIMIT, ESS_LIMIT = 1.01, 400  # of the static model, see CoupledHDP
SPREAD = 0.2  # chains whose probabilities of an edge differ by more do not agree about it
CERTAIN = 0.5  # least probability of the edges that are drawn and counted
DPI = 110
TRACES = ("log_joint", "Lambda", "b", "tau", "n_communities", "entropy")

STYLE = """
:root { color-scheme: light dark; --ink: #222; --quiet: #5c5c5c; --paper: #fff; --line: #ddd;
  --shade: #f5f7f9; --link: #00598c; --good: #00704f; --bad: #a84300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --quiet: #b0b0b0; --paper: #16181b;
  --line: #3a3d42; --shade: #202327; --link: #7cc4f0; --good: #4fd1a5; --bad: #ff9d5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; } a { color: var(--link); } .lead, .note { color: var(--quiet); }
.note { font-size: .9rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; }
.verdict { border-left: 4px solid var(--good); background: var(--shade); padding: .6rem 1rem; }
.verdict.bad { border-color: var(--bad); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding: .2rem 0; white-space: nowrap; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th.text, td.text { text-align: left; overflow-wrap: break-word; max-width: 26rem; }
figure { margin: 1.2rem 0; } figcaption { color: var(--quiet); font-size: .9rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; padding: 6px; }
@media print { nav { display: none; } body { max-width: none; padding: 0; font-size: 11pt; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .scroll { overflow: visible; } }
"""


@dataclass
class _Section:
    """A heading and what stands below it, as HTML."""

    name: str
    parts: list[str] = field(default_factory=list)

    def say(self, text: str, kind: str = "") -> None:
        """A paragraph of plain text."""
        marked = f' class="{kind}"' if kind else ""
        self.parts.append(f"<p{marked}>{escape(text)}</p>")

    def table(self, frame: pd.DataFrame, caption: str) -> None:
        """A table; floats to four digits."""
        self.parts.append(_table(frame, caption))

    def picture(self, draw: Callable[[], Any], alt: str, caption: str) -> None:
        """What ``draw`` draws; a remark where it cannot."""
        self.parts.append(_figure(draw, alt, caption))

    def html(self) -> str:
        key = _key(self.name)
        body = "\n".join(self.parts)
        return f'<section id="{key}">\n<h2>{escape(self.name)}</h2>\n{body}\n</section>'


def make_report(
    posterior: Posterior | DynamicPosterior,
    *,
    title: str = "Report of a cascadenet run",
    truth: pd.DataFrame | None = None,
    held_out: Cascades | None = None,
) -> str:
    """A page about a fit: what was found, how sure that is, and how it came about.

    Parameters
    ----------
    posterior : Posterior or DynamicPosterior
    title : str
    truth : DataFrame, optional
        True network, where it is known: source, target, rate and perhaps start.
    held_out : Cascades, optional
        Cascades that were not fitted, of nodes of the posterior: how well they are predicted.

    Returns
    -------
    str
        HTML, the same bytes for the same arguments.
    """
    sections = _dynamic(posterior) if hasattr(posterior, "posteriors") else _static(posterior)
    if truth is not None:
        sections.append(_against_truth(posterior, truth))
    if held_out is not None:
        sections.append(_held_out(posterior, held_out))
    sections.append(_provenance(posterior))
    links = "".join(f'<li><a href="#{_key(s.name)}">{escape(s.name)}</a></li>' for s in sections)
    body = "\n".join(section.html() for section in sections)
    # a page about data is no place for what others load or run
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(_lead(posterior))}</p>\n</header>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    )


def _lead(posterior: Any) -> str:
    if hasattr(posterior, "posteriors"):
        count, ends = len(posterior.posteriors), posterior.ends
        return (
            f"A network of {posterior.n_nodes} nodes that changes, in {count} "
            f"interval{'s' if count > 1 else ''} from {ends[0]:g} to {ends[-1]:g}."
        )
    made = posterior.provenance
    return (
        f"A network of {posterior.n_nodes} nodes, inferred from {made['n_cascades']} cascades "
        f"with {made['n_infections']} infections."
    )


# -- HTML ---------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "–" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _table(frame: pd.DataFrame, caption: str) -> str:
    """A table whose texts stand left and whose numbers stand right."""
    texts = [not _numeric(frame[name]) for name in frame.columns]
    marks = [' class="text"' if text else "" for text in texts]
    head = "".join(
        f'<th scope="col"{mark}>{escape(str(name))}</th>'
        for name, mark in zip(frame.columns, marks, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{m}>{escape(_cell(x))}</td>" for x, m in zip(row, marks, strict=True))
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iuf"


def _facts(rows: Iterable[tuple[str, Any]], caption: str) -> str:
    """Names and values, one pair a row."""
    body = "\n".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th>'
        f'<td class="text">{escape(_cell(value))}</td></tr>'
        for name, value in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n<tbody>\n{body}\n'
        "</tbody></table></div>"
    )


def _canvas(width: float, height: float, count: int = 1) -> Any:
    """Axes of a figure that no window knows of; of several, three a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    columns = min(count, 3)
    axes = [figure.add_subplot(-(-count // columns), columns, i + 1) for i in range(count)]
    return axes[0] if count == 1 else axes


def _figure(draw: Callable[[], Any], alt: str, caption: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of glyphs that a font lacks
            data = _png(draw())
    except Exception as error:  # labels and posteriors of all kinds: the rest of the page stands
        return f'<p class="note">No picture “{escape(caption)}”: {escape(str(error))}</p>'
    source = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _png(axes: Axes | Iterable[Axes]) -> bytes:
    first = np.array(axes, dtype=object).ravel()[0]
    buffer = io.BytesIO()
    first.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


# -- what all reports have ----------------------------------------------------------------------


def _static(posterior: Posterior) -> list[_Section]:
    edges = posterior.edges()
    summary = _Section("Summary")
    facts = [
        ("nodes", posterior.n_nodes),
        ("cascades", posterior.provenance["n_cascades"]),
        ("infections", posterior.provenance["n_infections"]),
        ("edges expected to have carried an infection", posterior.expected_edges),
        (f"edges with probability of at least {CERTAIN:g}", int((edges["prob"] >= CERTAIN).sum())),
    ]
    if posterior.settings["prior"] == "hdp":
        table = posterior.communities()
        for role in ("sender", "receiver"):
            facts.append((f"{role} communities", table[role][table[role] > 0].nunique()))
    summary.parts.append(_facts(facts, "What was fitted and found"))
    sections = [summary, _diagnostics(posterior), _edge_section(posterior, edges)]
    if posterior.settings["prior"] == "hdp":
        sections.append(_communities(posterior))
    return [*sections, _prediction(posterior)]


def _edge_section(posterior: Posterior, edges: pd.DataFrame) -> _Section:
    from cascadenet import plotting

    section = _Section("Edges")
    section.say(
        "prob is the probability that the pair carried one of the infections, n how many are "
        "expected; rate is the posterior mean with its standard deviation and 94% interval."
    )
    section.table(edges[:BEST], f"The best {min(BEST, len(edges))} of {len(edges)} pairs that met")
    section.picture(
        lambda: plotting.plot_network(posterior, CERTAIN, _canvas(6.2, 6.0)),
        "Drawing of the network of probable edges; nodes coloured by sender community, edges as "
        "wide as their rate",
        f"Edges with probability of at least {CERTAIN:g}",
    )
    return section


def _diagnostics(posterior: Posterior) -> _Section:
    from cascadenet import plotting

    section = _Section("Diagnostics")
    table = posterior.diagnostics()
    good, text = _verdict(posterior, table)
    section.say(text, "verdict" if good else "verdict bad")
    table = table.reset_index(names="scalar")
    section.table(table, "Scalars: R-hat compares the chains, ESS is what their draws are worth")
    names = [name for name in TRACES if name in posterior.scalars]
    section.picture(
        lambda: plotting.plot_traces(posterior, names, _canvas(8.8, 4.4, len(names))),
        "Traces of scalar parameters, one line a chain: chains that agree lie on top of each other",
        "Traces; each chain has a colour",
    )
    return section


def _verdict(posterior: Posterior, table: pd.DataFrame) -> tuple[bool, str]:
    """Whether the chains agree, in plain words."""
    chains = posterior.sums.draws.size
    if chains == 1:
        return False, (
            "There is only one chain. Whether another would have found the same is not known: fit "
            "again with four before anything is built on this."
        )
    sums = posterior.sums
    by_chain = sums.hits / sums.draws[:, None]
    spread = by_chain.max(axis=0) - by_chain.min(axis=0)
    torn = int((spread[posterior.pair_source[sums.used] >= 0] > SPREAD).sum())
    edges = (
        f"The chains' probabilities differ by more than {SPREAD:g} for {torn} pairs."
        if torn
        else f"No pair's probability differs by more than {SPREAD:g} between chains."
    )
    bad = table[(table["rhat"] > RHAT_LIMIT) | (table["ess_bulk"] < ESS_LIMIT)]
    if bad.empty:
        return True, f"The chains agree: R-hat and ESS are in order for every scalar. {edges}"
    names = ", ".join(bad.index)
    return False, (
        f"The chains have not mixed in every respect: R-hat goes up to {table['rhat'].max():.2f} "
        f"and ESS down to {table['ess_bulk'].min():.0f}, where at most {RHAT_LIMIT} and at least "
        f"{ESS_LIMIT} are asked for. Concerned: {names}. Raise tune and draws. {edges}"
    )


def _communities(posterior: Posterior) -> _Section:
    from cascadenet import plotting

    section = _Section("Communities")
    table = posterior.communities()
    largest = int(max(table["sender"].max(), table["receiver"].max(), 0))
    if largest == 0:
        section.say("No community was found that explains edges better than chance.")
        return section
    section.table(_sizes(table, largest), "Nodes of each community, as senders and as receivers")
    for role in ("sender", "receiver"):
        section.picture(
            lambda role=role: plotting.plot_communities(posterior, role, _canvas(5.8, 4.8)),
            f"Matrix of the probabilities that two nodes share a {role} community, nodes ordered "
            "by community; sure communities are dark blocks on the diagonal",
            f"Co-clustering of nodes as {role}s",
        )
    return section


def _sizes(table: pd.DataFrame, largest: int) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for k in [*range(1, largest + 1), 0]:
        row: dict[str, Any] = {"community": str(k) if k else "none (null)"}
        for role in ("sender", "receiver"):
            members = table[table[role] == k]
            row[f"{role}s"] = len(members)
            best = members.sort_values(f"{role}_prob", ascending=False, kind="stable")["node"]
            row[f"surest {role}s"] = ", ".join(map(str, best[:5])) if k else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _prediction(posterior: Any) -> _Section:
    from cascadenet import plots_dynamic, plotting

    section = _Section("Prediction")
    ahead = getattr(posterior, "forecast", posterior)
    flat = posterior.settings["prior"] == "flat"
    if not flat:
        section.picture(
            lambda: plotting.plot_predictive(ahead, _canvas(6.2, 5.2)),
            "Matrix of the predictive probabilities of all pairs, senders from top to bottom and "
            "receivers from left to right, both by community",
            "Predictive distribution of the next edge",
        )
        for unused in (False, True):
            which = "pairs that carried nothing so far" if unused else "next edges"
            section.picture(
                lambda unused=unused: plots_dynamic.plot_top_predictive(
                    posterior, _canvas(6.2, 5.2), unused=unused
                ),
                f"The twenty most probable {which}, with 94% intervals",
                f"Most probable {which}",
            )
    if posterior.settings["likelihood"] == "survival":
        section.picture(
            lambda: plots_dynamic.plot_top_predictive(
                posterior, _canvas(6.2, 5.2), quantity="transmit"
            ),
            "The twenty pairs most likely to transmit within the median delay, with 94% intervals",
            "Most likely transmissions, given that the source is infected",
        )
    columns = "prob: to be the next edge; transmit: within the median candidate delay"
    section.table(ahead.predictive(top=BEST), f"Most probable next edges ({columns})")
    return section


# -- networks that change -----------------------------------------------------------------------


def _dynamic(posterior: DynamicPosterior) -> list[_Section]:
    from cascadenet import plots_dynamic

    used, last = posterior.settings, len(posterior.posteriors) + posterior.first_interval - 1
    events = posterior.events()
    summary = _Section("Summary")
    facts = [("nodes", posterior.n_nodes), ("intervals", len(posterior.posteriors))]
    facts += [(x, _total(posterior, f"n_{x}")) for x in ("cascades", "infections")]
    if used["half_life"] is None:
        facts.append(("evidence remembered from interval to interval", used["forgetting_used"]))
    else:
        facts.append(("half-life of evidence", used["half_life"]))
    facts += [
        ("weight of an edge's having been there", used["support_used"]),
        ("edges born after the first interval", int((events["event"] == "birth").sum())),
        ("edges that died", int((events["event"] == "death").sum())),
    ]
    summary.parts.append(_facts(facts, "What was fitted and found"))
    summary.table(_per_interval(posterior, events), "Interval by interval")
    sections = [summary, _dynamic_diagnostics(posterior), _changes(posterior, events)]
    edges = _Section("Edges")
    table = posterior.edges(-1)
    edges.say(
        "active is the probability that the edge has a rate worth the name in the interval, prob "
        "that it carried an infection in it."
    )
    edges.table(
        table[:BEST].drop(columns=["interval", "start", "stop"]),
        f"The best {min(BEST, len(table))} of {len(table)} pairs in the last interval, {last}",
    )
    edges.picture(
        lambda: _rates(posterior, None),
        "Rates of the six edges that change most, with 94% intervals, over time",
        "Rates of the edges that change most",
    )
    sections.append(edges)
    if posterior.settings["prior"] == "hdp":
        sections.append(_flows(posterior))
    ahead = _prediction(posterior)
    if len(posterior.scores()):
        ahead.picture(
            lambda: plots_dynamic.plot_ahead(posterior, _canvas(6.6, 3.2)),
            "Log predictive density per infection of each interval given those before",
            "How well each interval was foretold by those before it",
        )
    if len(tried := posterior.memories_tried()):
        tried = tried.sort_values("log_predictive", ascending=False, kind="stable")
        ahead.table(tried, "Memories that were tried, the best first")
    return [*sections, ahead]


def _total(posterior: DynamicPosterior, name: str) -> int:
    """Sum over the intervals that had cascades; the others repeat what was before them."""
    seen: dict[str, int] = {}
    for one in posterior.posteriors:
        seen[one.provenance["data"]] = one.provenance[name]
    return sum(seen.values())


def _per_interval(posterior: DynamicPosterior, events: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for j, one in enumerate(posterior.posteriors):
        number = j + posterior.first_interval
        here = events[events["interval"] == number]["event"]
        table, checks = posterior.edges(number), one.diagnostics()
        rows.append(
            {
                "interval": number,
                "start": float(posterior.ends[j]),
                "stop": float(posterior.ends[j + 1]),
                "cascades": one.provenance["n_cascades"],
                "infections": one.provenance["n_infections"],
                "active edges": int((table["active"] >= CERTAIN).sum()),
                "births": int((here == "birth").sum()),
                "deaths": int((here == "death").sum()),
                "R-hat, worst": float(checks["rhat"].max()),
                "ESS, least": float(checks["ess_bulk"].min()),
            }
        )
    return pd.DataFrame(rows)


def _dynamic_diagnostics(posterior: DynamicPosterior) -> _Section:
    from cascadenet import plotting
    from cascadenet.inference.dynamics import model

    section = _Section("Diagnostics")
    table = posterior.diagnostics()
    bad = (table["rhat"] > model.RHAT_LIMIT) | (table["ess_bulk"] < model.ESS_LIMIT)
    intervals = bad.groupby(level="interval").any()
    asked = f"R-hat at most {model.RHAT_LIMIT} and ESS at least {model.ESS_LIMIT}"
    if posterior.posteriors[0].sums.draws.size == 1:
        section.say("There is only one chain: whether others agree is not known.", "verdict bad")
    elif intervals.any():
        names = ", ".join(map(str, intervals.index[intervals]))
        scalars = ", ".join(dict.fromkeys(table.index[bad].get_level_values("scalar")))
        section.say(
            f"The chains have not mixed in every respect in {int(intervals.sum())} of "
            f"{intervals.size} intervals ({names}): {asked} are asked for. Concerned: {scalars}. "
            "Rates and probabilities of edges are means over chains; what is said of communities "
            "needs chains that agree. Raise tune and draws.",
            "verdict bad",
        )
    else:
        section.say(f"The chains agree in every interval: {asked} hold everywhere.", "verdict")
    last = posterior.posteriors[-1]
    section.table(last.diagnostics().reset_index(names="scalar"), "Scalars of the last interval")
    names = [name for name in TRACES if name in last.scalars]
    section.picture(
        lambda: plotting.plot_traces(last, names, _canvas(8.8, 4.4, len(names))),
        "Traces of scalar parameters in the last interval, one line a chain",
        "Traces of the last interval; each chain has a colour",
    )
    return section


def _changes(posterior: DynamicPosterior, events: pd.DataFrame) -> _Section:
    from cascadenet import plots_dynamic

    section = _Section("Births and deaths of edges")
    if len(posterior.posteriors) < 2:
        section.say("There is one interval only: nothing to compare it with.")
        return section
    section.picture(
        lambda: plots_dynamic.plot_edge_events(posterior, _canvas(6.6, 3.2)),
        "Bars of the numbers of edges that were born and that died in each interval",
        "Edges born and gone since the interval before",
    )
    section.picture(
        lambda: plots_dynamic.plot_edge_timeline(posterior, _canvas(6.6, 5.0)),
        "Timeline of the twenty most changing edges, dark where they are probably active",
        "The edges that change most, and when they were active",
    )
    change = (events["active"] - events["active_before"]).astype(float).abs()
    clearest = events.assign(change=change).sort_values("change", ascending=False, kind="stable")
    section.table(clearest[:BEST].drop(columns="change"), "The clearest births and deaths")
    return section


def _flows(posterior: DynamicPosterior) -> _Section:
    from cascadenet import plots_dynamic

    section = _Section("Communities")
    sizes = posterior.community_sizes()
    if sizes.empty:
        section.say("In no interval was a community found that explains edges better than chance.")
        return section
    for role in ("sender", "receiver"):
        section.picture(
            lambda role=role: plots_dynamic.plot_community_flow(
                posterior, role, _canvas(max(6.4, 0.8 * len(posterior.posteriors)), 4.4)
            ),
            f"Flow of nodes between {role} communities from interval to interval",
            f"Communities of {role}s over time",
        )
    section.table(sizes, "Size of every community over time")
    return section


def _rates(posterior: DynamicPosterior, truth: pd.DataFrame | None) -> Any:
    from cascadenet import plots_dynamic

    pairs = plots_dynamic.changing_edges(posterior, 6)
    axes = _canvas(8.8, 4.8 if len(pairs) > 3 else 2.6, max(len(pairs), 1))
    return plots_dynamic.plot_rates_over_time(posterior, pairs, truth, axes)


# -- what more is known -------------------------------------------------------------------------


def _against_truth(posterior: Any, truth: pd.DataFrame) -> _Section:
    from cascadenet import metrics, plots_dynamic, plotting
    from cascadenet.dynamic_scores import score_dynamic

    section = _Section("Against the truth")
    if hasattr(posterior, "posteriors"):
        table = posterior.edges()
        table["interval"] -= posterior.first_interval
        score = score_dynamic(table, truth, posterior.ends, posterior.nodes, "active")
        section.say(
            f"Area under the precision-recall curve, mean over intervals: {score.auprc:.3f} "
            f"({score.prevalence:.3f} by chance); correlation of estimated and true rates: "
            f"{score.rate_correlation:.2f}."
        )
        section.table(score.table, "Edges ranked by active against those active at the middle")
        section.picture(
            lambda: plots_dynamic.plot_active_reliability(posterior, truth, _canvas(4.8, 4.2)),
            "Share of edges that are there against the probability that was given",
            "Reliability of the probabilities",
        )
        section.picture(
            lambda: _rates(posterior, truth),
            "Estimated rates of the most changing edges with 94% intervals beside the true ones",
            "Estimated and true rates of the edges that change most",
        )
        return section
    edges, nodes = posterior.edges(), posterior.nodes
    score = metrics.score_edges(edges, truth, nodes)
    section.say(
        f"Area under the precision-recall curve {score.auprc:.3f}, under the ROC curve "
        f"{score.roc_auc:.3f}, best F1 {score.best_f1:.3f}."
    )
    pictures: dict[str, Callable[[Any], Any]] = {
        "Precision and recall": lambda ax: plotting.plot_recovery(
            {"cascadenet": edges}, truth, nodes, ax
        ),
        "Reliability of the probabilities": lambda ax: plotting.plot_edge_probabilities(
            edges, truth, nodes, ax
        ),
        "Estimated and true rates": lambda ax: plotting.plot_rates(edges, truth, ax),
    }
    for name, draw in pictures.items():
        section.picture(lambda draw=draw: draw(_canvas(5.0, 4.6)), f"{name}, as curves", name)
    return section


def _held_out(posterior: Any, cascades: Cascades) -> _Section:
    from cascadenet.inference.forecast import score_predictive
    from cascadenet.inference.next_baselines import PosteriorNext
    from cascadenet.next_scores import score_next
    from cascadenet.plots_next import plot_hits

    section = _Section("Held-out cascades")
    ahead = getattr(posterior, "forecast", posterior)
    density = score_predictive(ahead.log_predictive(cascades))
    section.say(
        f"{cascades.n_cascades} cascades that were not fitted: log predictive density "
        f"{density.mean:.3f} ± {density.se:.3f} nats per infection."
    )
    most = max(2, min(200, posterior.n_nodes - 1))
    named = [k for k in (5, 10, 50, 100) if k <= most] or [most]
    score = score_next(PosteriorNext(ahead), cascades, k=named)
    section.table(score.table, "Who is infected next, every infection but the first a target")
    section.picture(
        lambda: plot_hits(score, _canvas(5.4, 4.0), k_max=most),
        "Share of next infections among the first k nodes named, against k",
        "Hits among the first k nodes named",
    )
    return section


def _provenance(posterior: Any) -> _Section:
    section = _Section("Provenance")
    made = [(str(k), v) for k, v in posterior.provenance.items()]
    section.parts.append(_facts(made, "How the fit came about (data: fingerprint)"))
    settings = sorted((str(k), v) for k, v in posterior.settings.items())
    section.parts.append(_facts(settings, "Settings"))
    return section
