"""A small writer of bar charts as SVG: panels below each other, each row a bar with its spread (a whisker from the lowest to
the highest) and its figure in words. Has a background of its own, light or dark as the reader's system is.
"""

import dataclasses
from xml.sax.saxutils import escape

WIDTH, MARGIN, LABEL, BARS = 800, 20, 190, 370  # pixels: all, around, for the words before a bar, for the longest bar
TITLE, PANEL, ROW, BAR, FOOT = 34, 28, 24, 12, 14  # heights

# Class: property, colour on a light page, colour on a dark one. (Not by CSS variables: not every viewer knows them.)
COLOURS = {
    ".page": ("fill", "#ffffff", "#0d1117"),
    "text": ("fill", "#1f2328", "#e6edf3"),
    ".quiet": ("fill", "#59636e", "#9198a1"),
    ".mark": ("fill", "#d1242f", "#ff7b72"),
    ".ours": ("fill", "#2da44e", "#3fb950"),
    ".other": ("fill", "#afb8c1", "#6e7681"),
    ".whisker": ("stroke", "#1f2328", "#e6edf3"),
    ".limit": ("stroke", "#d1242f", "#ff7b72"),
    ".axis": ("stroke", "#d1d9e0", "#30363d"),
}
SHAPES = """
text { font: 13px system-ui, sans-serif }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.quiet { font-size: 12px }
.mark { font-size: 11px }
.whisker { stroke-width: 1.5 }
.limit { stroke-width: 2.5 }
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
    limit: float = None  # a mark across the bar: what has to be reached


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    rows: tuple
    most: float = None  # bars end here, broken, lest one dwarf the others


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
        yield f'<path d="M{end - 24:.1f} {middle + BAR / 2:.1f} l6 {-BAR} l5 0 l-6 {BAR} z" class="page"/>'
    elif row.spread.low < row.spread.high:
        low, high = x + row.spread.low * scale, x + min(row.spread.high * scale, BARS)
        yield _line(low, middle, high, middle, "whisker")
        for at in (low, high):
            yield _line(at, middle - 4, at, middle + 4, "whisker")
    if row.limit is not None:
        at = x + min(row.limit * scale, BARS)
        yield _line(at, middle - ROW / 2 + 1, at, middle + ROW / 2 - 1, "limit")
    yield _text(end + 14, middle + 4, row.words, "quiet")


def _panel(panel, y):
    x, end = MARGIN + LABEL, MARGIN + LABEL + BARS
    longest = max(max(row.spread.high, row.limit or 0) for row in panel.rows)
    scale = BARS / (min(longest, panel.most) if panel.most else longest or 1)
    bottom = y + PANEL + ROW * len(panel.rows)
    yield _text(MARGIN, y + 16, panel.title, "panel")
    yield _line(x, y + PANEL, x, bottom, "axis")
    for number, row in enumerate(panel.rows):
        yield from _row(row, x, y + PANEL + ROW * number, end, scale)


def height(panel):
    return PANEL + ROW * len(panel.rows) + FOOT


def chart(title, panels):
    """The whole file, as text."""
    tall = 2 * MARGIN + TITLE + sum(map(height, panels))
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{tall}" viewBox="0 0 {WIDTH} {tall}" role="img">',
             f"<title>{escape(title)}</title>", _style(),
             f'<rect width="{WIDTH}" height="{tall}" rx="8" class="page"/>', _text(MARGIN, MARGIN + 16, title, "title")]
    if any(row.limit is not None for panel in panels for row in panel.rows):
        lines += [_line(WIDTH - 140, MARGIN + 4, WIDTH - 140, MARGIN + 20, "limit"),
                  _text(WIDTH - 132, MARGIN + 16, "what is to be reached", "mark")]
    y = MARGIN + TITLE
    for panel in panels:
        lines.extend(_panel(panel, y))
        y += height(panel)
    return "\n".join([*lines, "</svg>", ""])
