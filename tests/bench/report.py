"""Results in words, for the terminal and for docs/performance.md, and as plots."""

import pathlib
import re

import svg
from figures import Figures
from peers import HAProxy

# metric: heading, what one of it is in the metric's own unit
METRICS = {
    "rate": ("messages/s", 1), "cpu": ("CPU a message, µs", 1e-6), "p50": ("p50, ms", 1e-3), "p99": ("p99, ms", 1e-3),
    "memory": ("KiB each", 1024), "sessions": ("sessions", 1), "reloads": ("reloads", 1),
    "seconds": ("seconds", 1), "processor": ("CPU seconds", 1), "decisions": ("decisions/s", 1),
}
MEASURE = HAProxy.name  # what ratios are to


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(spread):
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def figure(spread, scale):
    return number(spread.median / scale)


def columns(case, figures):
    """The metrics that anybody has in this case."""
    return [metric for metric in case.shown
            if any(figures.spread(case.name, subject, metric) for subject in figures.subjects(case.name))]


def table(case, figures):
    """Heading and rows: a subject's median of each metric, and its ratio to HAProxy with the spread."""
    subjects, metrics = figures.subjects(case.name), columns(case, figures)
    compared = [metric for metric in metrics if MEASURE in subjects and metric != "sessions"]
    heading = ["in the middle"]
    for metric in metrics:
        heading.append(METRICS[metric][0])
        heading += [f"× {MEASURE}"] if metric in compared else []
    rows = []
    for subject in subjects:
        row = [subject]
        for metric in metrics:
            spread = figures.spread(case.name, subject, metric)
            row.append(figure(spread, METRICS[metric][1]) if spread else "–")
            if metric in compared:
                row.append(ratio(figures.ratio(case.name, subject, metric, MEASURE)) if spread and subject != MEASURE else "–")
        rows.append(row)
    return heading, rows


def bars(case, figures):
    """One row for each bar: what, limit, aim, reached, mark."""
    for bar in case.bars:
        spread = bar.measured(case.name, figures)
        if spread is None:
            continue
        sign = "≥" if bar.at_least else "≤"
        to = f" × {bar.against}" if bar.against else f" {bar.unit}"
        aim = f"{sign} {bar.aim:g}" if bar.aim is not None else ""
        reached = ratio(spread) if bar.against else f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"
        yield [case.name, bar.words, f"{sign} {bar.limit:,g}{to}", aim, reached, bar.mark(spread)]


def to_base(case, figures):
    """How the program compares with the other build of it, if there is one."""
    for subject in figures.subjects(case.name):
        if subject.startswith("base"):
            ours = "splitmx" + subject[len("base"):]
            ratios = [(METRICS[metric][0], figures.ratio(case.name, ours, metric, subject)) for metric in columns(case, figures)]
            yield f"{ours} × {subject}: " + "; ".join(f"{words} {ratio(spread)}" for words, spread in ratios if spread)


BARS_HEADING = ["case", "what", "bar", "aim", "reached", "mark"]


def as_text(heading, rows):
    """Columns under each other, figures to the right."""
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def as_markdown(heading, rows, words=1):
    """`words`: so many columns on the left are no figures."""
    lines = [heading, ["---"] * words + ["---:"] * (len(heading) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- plots ----

RELATIVE = ("rate", "cpu", "p50", "p99")  # drawn as ratios where HAProxy takes part

# name: title, and the panels: heading, a case and one of its metrics
CLEAR = (("4 kB, one message a connection", "one"), ("4 kB, connections kept", "kept"), ("1 MB, one message a connection", "mb"))
PLOTS = {
    "cpu": ("Processor time a message, × HAProxy (less is better)", [(words, case, "cpu") for words, case in CLEAR]),
    "rate": ("Messages a second, × HAProxy (more is better)", [(words, case, "rate") for words, case in CLEAR]),
    "tls": ("Processor time a message with TLS (less is better)", [("STARTTLS in; splitmx out, too", "tls", "cpu")]),
    "latency": ("A message's time, × HAProxy (less is better)",
                [("at half load: p50", "paced", "p50"), ("at half load: p99", "paced", "p99")]),
    "memory": ("Memory (less is better)",
               [("an idle session", "idle", "memory"), ("a message of 50 MB to a slow upstream", "big", "memory")]),
    "routes": ("A table of a million routes (less is better)",
               [("on the clock", "routes", "seconds"), ("on a processor", "routes", "processor")]),
}


def _in_words(spread, metric):
    heading, scale = METRICS[metric]
    return f"{figure(spread, scale)} {heading.rpartition(', ')[2]}"


def _limit(case, subject, figures, metric, relative):
    """Where the bar of a subject is, in what the panel is drawn in; or None."""
    for bar in case.bars:
        if (bar.subject, bar.metric) != (subject, metric):
            continue
        if relative:
            return bar.limit if bar.against == MEASURE else None
        if bar.against is None:
            return bar.limit * bar.scale
        if other := figures.spread(case.name, bar.against, metric):
            return bar.limit * other.median
    return None


def _rows(case, figures, metric, relative):
    for subject in figures.subjects(case.name):
        spread = figures.spread(case.name, subject, metric)
        if spread is None:
            continue
        words = _in_words(spread, metric)
        if relative:
            spread = figures.ratio(case.name, subject, metric, MEASURE)
            words = f"{ratio(spread)}: {words}" if subject != MEASURE else words
        yield svg.Row(subject, spread, words, subject.startswith("splitmx"), _limit(case, subject, figures, metric, relative))


def panel(heading, case, figures, metric):
    """Ratios to HAProxy or the figures themselves."""
    relative = metric in RELATIVE and MEASURE in figures.subjects(case.name)
    rows = tuple(_rows(case, figures, metric, relative))
    interesting = [row.spread.high for row in rows if row.ours] + [1.0] * relative
    return svg.Panel(heading, rows, most=3 * max(interesting) if interesting else None) if rows else None


def plots(cases, figures):
    """{name: text of an SVG file}"""
    by_name = {case.name: case for case in cases}
    drawn = {}
    for name, (title, wanted) in PLOTS.items():
        panels = [made for words, case, metric in wanted if (made := panel(words, by_name[case], figures, metric))]
        if panels:
            drawn[name] = svg.chart(title, panels)
    return drawn


# ---- the whole ----


def summary(cases, figures):
    """The bars of all cases, as rows."""
    return [row for case in cases for row in bars(case, figures)]


def machine_words(machine):
    return (f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}; "
            + ", ".join(machine["versions"]))


def document(cases, results):
    """What stands between the markers of docs/performance.md: {marker: text}."""
    figures = Figures(results["records"])
    told = {"bars": as_markdown(BARS_HEADING, summary(cases, figures), words=len(BARS_HEADING)), "machine": machine_words(results["machine"])}
    for case in cases:
        if not figures.subjects(case.name):
            continue
        about = results["cases"][case.name]
        remark = f" {about['remark']}." if about.get("remark") else ""
        told[case.name] = f"{about['rounds']} rounds, {about['when']}.{remark}\n\n{as_markdown(*table(case, figures))}"
    return told


def renew(path, told):
    """Puts each text between `<!-- figures: NAME -->` and `<!-- end -->`; a NAME that was not measured stays as it is."""
    page = pathlib.Path(path)

    def put(match):
        return f"{match[1]}\n{told[match[2]]}\n\n{match[3]}" if match[2] in told else match[0]

    page.write_text(re.sub(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", put, page.read_text(), flags=re.S))
