"""One page, whole and alone: what it says, what it never loads, and that data cannot speak HTML."""

from __future__ import annotations

import base64
import functools
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser

import pandas as pd
import pytest

import cascadenet as cn
from cascadenet import report, simulate
from cascadenet.inference.dynamics.model import DynamicCoupledHDP
from cascadenet.report import make_report

N_NODES = 12
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a&b</td>", "$\\frac{$"]
NODES = HOSTILE + [f"n{i}" for i in range(N_NODES - len(HOSTILE))]
TITLE = "</title><script>x</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def truth(seed):
    network = simulate.community_network(2, 6, 0.5, 0.0, rate=(0.5, 1.5), seed=seed)
    label = dict(enumerate(NODES))
    return network.assign(source=network.source.map(label), target=network.target.map(label))


@pytest.fixture(scope="module")
def cascades(truth, seed):
    return simulate.simulate_cascades(
        truth, 110, nodes=NODES, start=(0.0, 30.0), window=1.5, seed=seed
    ).cascades


@pytest.fixture(scope="module")
def static(cascades, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains
        model = cn.CoupledHDP(truncation=5)
        return model.fit(cascades, 20, 20, 2, seed, progress=False).posterior_


@pytest.fixture(scope="module")
def dynamic(cascades, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DynamicCoupledHDP(10.0, forgetting=0.3, support=0.2, truncation=5)
        return model.fit(cascades, 15, 15, 2, seed, progress=False).posterior_


@pytest.fixture(scope="module")
def text_of(static, dynamic, truth, cascades):
    """Whole reports, each made once."""

    @functools.cache
    def make(kind):
        posterior = static if kind == "static" else dynamic
        held_out = cascades.subset(slice(100, None))
        return make_report(posterior, title=TITLE, truth=truth, held_out=held_out)

    return make


KINDS = ("static", "dynamic")


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_whole_and_alone(kind, text_of):
    """Tags match, links lead somewhere, and nothing is loaded or run."""
    text = text_of(kind)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert len(page.ids) == len(set(page.ids))
    assert {a["href"] for a in page.all("a")} == {f"#{name}" for name in page.ids}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_in_the_page_and_described(kind, text_of):
    pictures = Page(text_of(kind)).all("img")
    assert len(pictures) >= 10
    for picture in pictures:
        head, data = picture["src"].split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
        assert len(picture["alt"]) > 10
    assert len({picture["src"] for picture in pictures}) == len(pictures)
    assert len({picture["alt"] for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_text(kind, text_of):
    """They appear as they are, and as nothing else."""
    text = text_of(kind)
    page = Page(text)
    cells = set(page.text)
    assert {HOSTILE[0], HOSTILE[2]} <= cells
    assert page.text.count(TITLE) == 2
    assert "<script" not in text
    assert not any(tag == "img" and attributes["src"] == "x" for tag, attributes in page.tags)


@pytest.mark.parametrize("kind", KINDS)
def test_sections(kind, text_of):
    ids = Page(text_of(kind)).ids
    common = ["summary", "diagnostics", "edges", "communities", "prediction"]
    common += ["against-the-truth", "held-out-cascades", "provenance"]
    assert [name for name in ids if name in common] == common
    assert ("births-and-deaths-of-edges" in ids) == (kind == "dynamic")


def rows_after(text, caption):
    """Cells of the table with this beginning of its caption."""
    part = text.split(f"<caption>{caption}")[1].split("</table>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in part.split("<tr>")[1:]]


def test_numbers_are_those_of_the_posterior(dynamic, static, text_of):
    text = text_of("dynamic")
    events = dynamic.events()
    rows = [row for row in rows_after(text, "Interval by interval") if row]
    assert [int(row[0]) for row in rows] == [0, 1, 2]
    for event, column in (("birth", 6), ("death", 7)):
        found = [int(row[column]) for row in rows]
        expected = [((events.interval == j) & (events.event == event)).sum() for j in range(3)]
        assert found == expected
    best = static.edges(top=1).iloc[0]
    row = next(row for row in rows_after(text_of("static"), "The best ") if row)
    assert row[2:5] == [f"{best[name]:.4g}" for name in ("prob", "n", "rate")]
    assert static.provenance["data"] in text_of("static")
    assert str(static.provenance["seed"]) in text_of("static")


def test_same_run_same_bytes(dynamic, text_of):
    """But for what is asked for beside it."""
    again = make_report(dynamic, title=TITLE)
    for name in ("births-and-deaths-of-edges", "prediction", "provenance"):
        part = again.split(f'<section id="{name}">')[1].split("</section>")[0]
        assert part in text_of("dynamic")


# Verdicts


def verdict(posterior):
    diagnose = report._dynamic_diagnostics if hasattr(posterior, "ends") else report._diagnostics
    text = diagnose(posterior).html()
    return re.search(r'<p class="(verdict[^"]*)">(.*?)</p>', text).groups()


def test_short_chains_are_called_so(static, dynamic):
    for posterior in (static, dynamic):
        kind, text = verdict(posterior)
        assert kind == "verdict bad"
        assert "have not mixed in every respect" in text
        assert "Raise tune and draws" in text


def test_good_diagnostics_are_called_so(static, monkeypatch):
    table = pd.DataFrame({"rhat": [1.0, 1.009], "ess_bulk": [400.0, 900.0]}, index=["a", "b"])
    monkeypatch.setattr(type(static), "diagnostics", lambda self: table)
    kind, text = verdict(static)
    assert kind == "verdict"
    assert text.startswith("The chains agree")


def test_one_chain_is_no_evidence_of_agreement(cascades, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cn.CoupledHDP(truncation=5, prior="flat")
        posterior = model.fit(cascades, 10, 10, 1, seed, progress=False).posterior_
    kind, text = verdict(posterior)
    assert kind == "verdict bad"
    assert text.startswith("There is only one chain")
    page = Page(make_report(posterior))
    assert "communities" not in page.ids


def test_picture_that_fails_leaves_the_page(dynamic, monkeypatch):
    from cascadenet import plots_dynamic

    def fail(*arguments, **options):
        raise ValueError("no <such> picture")

    monkeypatch.setattr(plots_dynamic, "plot_edge_events", fail)
    page = Page(report._changes(dynamic, dynamic.events()).html())
    assert any("no <such> picture" in text for text in page.text)
    assert page.all("img")


# In a browser


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium here")
def test_browser_shows_it(dynamic, text_of, tmp_path):
    """Laid out without scripts from the labels; all pictures decode; a screenshot is not blank."""
    import matplotlib.image

    file, shot = tmp_path / "report.html", tmp_path / "shot.png"
    file.write_text(text_of("dynamic"), encoding="utf-8")
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,1200"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", file.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = matplotlib.image.imread(shot)
    assert image.shape[:2] == (1200, 900)
    assert image[..., :3].std() > 0.02
