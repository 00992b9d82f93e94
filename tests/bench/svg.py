"""A small writer of bar charts as SVG: panels below each other, each row a bar with its spread (a whisker from the lowest to
the highest) and its figure in words. Has a background of its own, light or dark as the reader's system is.
"""

import dataclasses
from xml.sax.saxutils import escape

WIDTH, MARGIN, LABEL, BARS = 760, 20, 150, 380  # pixels: all, around, for the words before a bar, for the longest bar
TITLE, PANEL, ROW, BAR, FOOT = 34, 40, 24, 12, 12  # heights

# Class: property, colour on a light page, colour on a dark one. (Not by CSS variables: not every viewer knows them.)
COLOURS = {
    ".page": ("fill", "#ffffff", "#0d1117"),
    "text": ("fill", "#1f2328", "#e6edf3"),
    ".quiet": ("fill", "#59636e", "#9198a1"),
    ".mark": ("fill", "#bc4c00", "#f0883e"),
    ".ours": ("fill", "#2da44e", "#3fb950"),
    ".other": ("fill", "#afb8c1", "#6e7681"),
    ".whisker": ("stroke", "#1f2328", "#e6edf3"),
    ".limit": ("stroke", "#bc4c00", "#f0883e"),
    ".axis": ("stroke", "#d1d9e0", "#30363d"),
}
SHAPES = """
text { font: 13px system-ui, sans-serif }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.quiet { font-size: 12px }
.mark { font-size: 11px }
.whisker, .limit { stroke-width: 1.5 }
.limit { stroke-dasharray: 4 3 }
"""


def _style():
    light, dark = (" ".join(f"{name} {{ {colours[0]}: {colours[which]} }}" for name, colours in COLOURS.items()) for which in (1, 2))
    return f"<style>{SHAPES}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n</style>"


@dataclasses.dataclass(frozen=True)
class Row:
    label: str
    spread: object  # with median, low and high
    words: str  # the figure, as it is written behind the bar
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    rows: tuple
    marks: tuple = ()  # (value, words): lines over all bars
    most: float = None  # bars end here, with an arrow, lest one dwarf the others


def _text(x, y, words, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _row(row, x, y, end, scale):
    """One bar around the height y; what is longer than `end` allows is cut there."""
    middle = y + ROW / 2
    length, cut = row.spread.median * scale, row.spread.median * scale > BARS
    yield _text(x - 8, middle + 4, row.label, anchor="end")
    yield (f'<rect x="{x:.1f}" y="{middle - BAR / 2:.1f}" width="{min(length, BARS):.1f}" height="{BAR}" rx="2" '
           f'class="{"ours" if row.ours else "other"}"/>')
    if cut:
        yield f'<path d="M{end - 6:.1f} {middle - BAR / 2:.1f} l8 {BAR / 2} l-8 {BAR / 2} z" class="other"/>'
    elif row.spread.low < row.spread.high:
        low, high = x + row.spread.low * scale, x + min(row.spread.high * scale, BARS)
        yield _line(low, middle, high, middle, "whisker")
        for at in (low, high):
            yield _line(at, middle - 4, at, middle + 4, "whisker")
    yield _text(end + 14, middle + 4, row.words, "quiet")


def _panel(panel, y):
    x, end = MARGIN + LABEL, MARGIN + LABEL + BARS
    longest = max([row.spread.high for row in panel.rows] + [value for value, _ in panel.marks])
    scale = BARS / (min(longest, panel.most) if panel.most else longest or 1)
    bottom = y + PANEL + ROW * len(panel.rows)
    yield _text(MARGIN, y + 16, panel.title, "panel")
    yield _line(x, y + PANEL, x, bottom, "axis")
    for number, row in enumerate(panel.rows):
        yield from _row(row, x, y + PANEL + ROW * number, end, scale)
    for value, words in panel.marks:
        at = x + value * scale
        yield _line(at, y + PANEL - 4, at, bottom, "limit")
        yield _text(at, y + PANEL - 8, words, "mark", "middle")


def height(panel):
    return PANEL + ROW * len(panel.rows) + FOOT


def chart(title, panels):
    """The whole file, as text."""
    tall = 2 * MARGIN + TITLE + sum(map(height, panels))
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{tall}" viewBox="0 0 {WIDTH} {tall}" role="img">',
             f"<title>{escape(title)}</title>", _style(),
             f'<rect width="{WIDTH}" height="{tall}" rx="8" class="page"/>', _text(MARGIN, MARGIN + 16, title, "title")]
    y = MARGIN + TITLE
    for panel in panels:
        lines.extend(_panel(panel, y))
        y += height(panel)
    return "\n".join([*lines, "</svg>", ""])
