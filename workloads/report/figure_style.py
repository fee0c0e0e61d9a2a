"""How does every figure look, and how does it become a file? One style, PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from workloads.results.policy_order import policy_style

DPI = 150
_WIDTH_IN, _NARROW_IN = 9.4, 4.7
_FEW_DECADES = 1.5  # of a log axis: its powers of ten alone would be one tick, or none
INK = "#222222"
QUIET = "#777777"
SLO_INK = "#b00020"
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "scorpio",  # the same data give the same file
    "svg.fonttype": "path",
}
_NARROW_STYLE: dict[str, Any] = {
    "axes.titlesize": 8.5, "axes.labelsize": 8.5, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
}  # fmt: skip
_IS_NARROW: ContextVar[bool] = ContextVar("narrow", default=False)
_STAMP: ContextVar[str] = ContextVar("stamp", default="")


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished figure: file name without suffix, one plain sentence, and its two forms."""

    name: str
    caption: str
    png: bytes
    svg: bytes


def styled() -> Any:
    """Context in which figures are built and drawn."""
    return mpl.rc_context(_STYLE | _NARROW_STYLE if is_narrow() else _STYLE)


@contextmanager
def narrow() -> Iterator[None]:
    """Figures drawn herein are for the screen of a phone."""
    before = _IS_NARROW.set(True)
    try:
        yield
    finally:
        _IS_NARROW.reset(before)


def is_narrow() -> bool:
    """Is there room for two or three panels side by side? Not if this is true."""
    return _IS_NARROW.get()


@contextmanager
def stamped(text: str) -> Iterator[None]:
    """Figures drawn herein bear the text across: it cannot be cut off with a caption."""
    before = _STAMP.set(text)
    try:
        yield
    finally:
        _STAMP.reset(before)


def new_figure(height_in: float) -> Figure:
    """An empty figure, as wide as every other; no pyplot, so nothing global is kept."""
    width_in = _NARROW_IN if is_narrow() else _WIDTH_IN
    return Figure(figsize=(width_in, height_in), layout="constrained")


def finish(figure: Figure, name: str, caption: str) -> Plot:
    """Draw a figure into both forms."""
    if text := _STAMP.get():
        look: dict[str, Any] = {"fontsize": 64, "alpha": 0.18, "rotation": 20, "color": SLO_INK}
        figure.text(0.5, 0.5, text, ha="center", va="center", **look).set_in_layout(False)
    forms = {}
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # done once; every form would else repeat it
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        metadata = {"Software": None} if kind == "png" else {"Date": None}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        forms[kind] = buffer.getvalue()
    return Plot(name, caption, forms["png"], forms["svg"])


def percent_axis(axis: Any) -> None:
    """Shares 0..1 shown as percent, with a little air above 100 %."""
    axis.set_ylim(0.0, 1.03)
    axis.set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def plain_ticks(axis: Any) -> None:
    """A log axis labelled 0.1, 1, 10 instead of powers of ten; 1, 2, 5, 10 where it is short."""
    low, high = axis.get_view_interval()
    if high < low * 10.0**_FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_columns(entries: int, most: int) -> int:
    """How many entries of a legend below the axes stand side by side."""
    return min(entries, 2 if is_narrow() else most)


def line_options(policy: str) -> dict[str, Any]:
    """Colour, dashes and width of a policy's line."""
    style = policy_style(policy)
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "linewidth": style.width,
        "zorder": style.front,
    }


def policy_legend(
    figure: Figure,
    policies: Iterable[str],
    extra: Iterable[Any] = (),
    *,
    below: bool = False,
    markers: bool = True,
) -> None:
    """A legend beside or below the axes: each policy as it is drawn in the figure."""
    handles = [
        Line2D(
            [],
            [],
            label=policy,
            marker=policy_style(policy).marker if markers else None,
            markersize=5,
            **line_options(policy),
        )
        for policy in policies
    ]
    handles += list(extra)
    if below or is_narrow():
        columns = legend_columns(len(handles), 4)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2)
    else:
        figure.legend(handles=handles, loc="outside right upper", handlelength=3.2)
