"""What `make bench` makes of its figures: ratios within a round, marks, and plots that are sound XML. No times are measured."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
import report  # noqa: E402
import svg  # noqa: E402
from figures import Bar, Figures, Spread  # noqa: E402


class Case:
    name, title, shown = "one", "one <message> a connection", ("rate", "cpu")
    bars = [Bar("CPU a message", "splitmx", "cpu", 0.6, 0.5, against="haproxy")]


@pytest.fixture(name="figures")
def three_rounds():
    """A machine that gets slower by the round: our median over theirs would be 0.55 / 1."""
    figures = Figures()
    for number, slower in enumerate((1, 2, 4)):
        figures.add("one", "haproxy", number, {"cpu": 200e-6 * slower, "rate": 4000 / slower})
        figures.add("one", "splitmx", number, {"cpu": 100e-6 * slower + number * 10e-6, "rate": 8000 / slower, "p99": None})
    return figures


def test_a_ratio_is_taken_within_each_round(figures):
    ratio = figures.ratio("one", "splitmx", "cpu", "haproxy")
    assert ratio.median == pytest.approx(0.525) and ratio.low == pytest.approx(0.5) and ratio.high == pytest.approx(0.525)


def test_a_round_that_one_side_lacks_does_not_count(figures):
    figures.add("one", "splitmx", 3, {"cpu": 1.0})
    assert figures.ratio("one", "splitmx", "cpu", "haproxy").high == pytest.approx(0.525)


def test_what_nobody_measured_has_no_column(figures):
    assert report.columns(Case, figures) == ["rate", "cpu"]
    assert figures.spread("one", "splitmx", "p99") is None


@pytest.mark.parametrize("bar, mark", [
    (Bar("", "splitmx", "cpu", 0.6, 0.5, against="haproxy"), "met"),
    (Bar("", "splitmx", "cpu", 0.6, 0.53, against="haproxy"), "aim met"),
    (Bar("", "splitmx", "cpu", 0.5, against="haproxy"), "not met"),
    (Bar("", "splitmx", "rate", 1.5, 2.5, against="haproxy", at_least=True), "met"),
    (Bar("", "splitmx", "rate", 2.5, at_least=True, against="haproxy"), "not met"),
    (Bar("", "splitmx", "rate", 3, unit="k", scale=1000), "not met"),
])
def test_a_bar_is_met_or_not(figures, bar, mark):
    assert bar.mark(bar.measured("one", figures)) == mark


def test_the_summary_names_bar_aim_and_what_was_reached(figures):
    assert report.summary([Case], figures) == [
        ["one", "CPU a message", "≤ 0.6 × haproxy", "≤ 0.5", "0.53 (0.50–0.53)", "met"]]


def test_figures_go_between_their_markers_and_nowhere_else(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\nkept\n<!-- end -->\n")
    report.renew(page, {"one": "new"})
    assert page.read_text() == "a\n<!-- figures: one -->\n\nnew\n\n<!-- end -->\nb\n<!-- figures: two -->\nkept\n<!-- end -->\n"
    report.renew(page, {"one": "new"})
    assert page.read_text().count("new") == 1


def bars_of(text):
    return [rect for rect in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") in ("ours", "other")]


def test_a_plot_has_a_bar_for_each_subject_in_proportion(figures):
    drawn = bars_of(svg.chart("A <title>", [report.panel("", Case, figures, "rate")]))
    assert [bar.get("class") for bar in drawn] == ["other", "ours"]
    assert float(drawn[1].get("width")) == pytest.approx(2 * float(drawn[0].get("width")), abs=0.2)


def test_a_bar_has_its_mark_where_it_has_to_end(figures):
    rows = {row.label: row.limit for row in report.panel("", Case, figures, "cpu").rows}
    assert rows == {"haproxy": None, "splitmx": 0.6}


def test_a_bar_too_long_is_broken_and_ends_within_the_plot():
    rows = (svg.Row("short", Spread(1, 1, 1), "1"), svg.Row("long", Spread(40, 30, 50), "40"))
    text = svg.chart("", [svg.Panel("", rows, most=2)])
    assert float(bars_of(text)[1].get("width")) == svg.BARS and text.count("<path") == 1
    assert all(float(line.get("x2")) < svg.WIDTH for line in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}line"))
