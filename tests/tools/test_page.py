"""Does the page say by how much a tool and we differ, and whether that is too much?"""

from __future__ import annotations

from scorpio.studies.results import Header
from tests.tools.page import markdown
from tests.tools.run import Numbers, Run

HEADER = Header("c", "d", "m", "x")
OURS = Numbers(20, 0, 1000.0, 100.0)


def page(ttft_ms: float, engine: Numbers | None = None) -> str:
    told = Numbers(20, 4, ttft_ms, 100.0)
    run = Run("a tool", "tool --go", ["said"], told, OURS, engine or OURS)
    return markdown([run, Run("a proxy", "proxy", ["served"])], HEADER)


def test_numbers_that_agree() -> None:
    text = page(1010.0)
    row = "| a tool | 20 / 20 / 20 | 4 / 0 | 1010.0 | 1000.0 | 1000.0 | 100.0 | 100.0 | 100.0 |"
    assert row in text
    assert "- TTFT, tool and ours: within 2 %; at most 1.0% (+10.0 ms, a tool)." in text
    assert "NOT" not in text
    assert text.count("## a proxy\n") == 1
    assert "| a proxy |" not in text


def test_numbers_that_do_not_agree() -> None:
    text = page(1100.0, Numbers(20, 4, 1050.0, 0.0))
    assert "- TTFT, tool and ours: NOT within 2 %; at most 9.1% (+100.0 ms, a tool)." in text
    assert "- TTFT, tool and engine: NOT within 2 %; at most 4.5% (+50.0 ms, a tool)." in text
    assert "TPOT, tool and engine" not in text
