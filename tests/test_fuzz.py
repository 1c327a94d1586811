"""Damaged files: every reader and loader answers with the package's own error or reads them."""

from __future__ import annotations

from tests import fuzz

CASES = 500


def test_only_format_errors_escape(seed: int) -> None:
    counts, escaped = fuzz.fuzz(CASES, seed)
    assert escaped == []
    assert counts["refused"] > CASES // 4  # the damage is real


def test_an_unguarded_reader_is_noticed(seed: int, monkeypatch) -> None:
    """Negative control: a reader that lets a parser's own error through."""
    given = fuzz.subjects

    def careless(folder):
        for name, content, _ in given(folder):
            if content.isascii():
                yield name, content, lambda path: path.read_bytes().decode("ascii")

    monkeypatch.setattr(fuzz, "subjects", careless)
    assert fuzz.fuzz(100, seed)[1]
