"""Of which pieces is a page made? One file without a network: lists, tables, figures, words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape

from workloads.report.figure_style import Plot, narrow
from workloads.report.page_style import CSS, NARROW_PX


def whole_page(
    title: str,
    question: str,
    parts: Sequence[str],
    terms: Mapping[str, str],
    command: str | None = None,
) -> str:
    """The page, with the words that it uses and the command that made it at its end."""
    told = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items())
    made = f"<h2>How this was made</h2><p><code>{escape(command)}</code></p>" if command else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f"<h1>{escape(question)}</h1>"
        + "".join(parts)
        + f"<h2>Words used</h2><dl>{told}</dl>{made}</body></html>\n"
    )


def findings_html(texts: Sequence[str]) -> str:
    """What the page says, first."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="findings">{items}</ul>'


def care_html(title: str, texts: Sequence[str]) -> str:
    """What weakens it; nothing where nothing does."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<h2>{escape(title)}</h2><ul class="care">{items}</ul>' if texts else ""


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """left: heads of columns of words."""
    lines = [row_html(heads, heads, left, tag="th")]
    lines += [row_html(cells, heads, left) for cells in rows]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def row_html(
    cells: Sequence[str],
    columns: Sequence[str],
    left: Sequence[str],
    marks: Sequence[str] = (),
    tag: str = "td",
) -> str:
    """One row of a table."""
    inner = "".join(
        f"<{tag}{' class=left' if name in left else ''}>{escape(text)}</{tag}>"
        for name, text in zip(columns, cells, strict=True)
    )
    return f'<tr class="{" ".join(marks)}">{inner}</tr>'


def figure_html(plot: Plot, small: Plot) -> str:
    """small: the same for a narrow screen."""
    caption = escape(plot.caption)
    image = f'<img src="{_data(plot)}" alt="{caption}">'
    source = f'<source media="(max-width:{NARROW_PX}px)" srcset="{_data(small)}">'
    shown = f"<picture>{source}{image}</picture>"
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def drawn_html(draw: Callable[[], Plot]) -> str:
    """A figure that is drawn for both screens."""
    with narrow():
        small = draw()
    return figure_html(draw(), small)


def _data(plot: Plot) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(plot.svg).decode()}"
