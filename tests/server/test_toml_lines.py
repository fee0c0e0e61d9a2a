"""On which line does a field stand?"""

from __future__ import annotations

import pytest

from scorpio.server.accounts.toml_lines import line_of

TEXT = """# a comment = 1
top = 1
"quoted" = 2

[classes.chat]   # its class
ttft_ms = 1
inline = { a = 1, b = 2 }

[ tenants . "a.b" ]
keys = [
  "x",
]
[[many]]
one = 1
[service_tiers]
flex.deep = 1
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        (("top",), 2),
        (("quoted",), 3),
        (("classes", "chat"), 5),
        (("classes", "chat", "ttft_ms"), 6),
        (("classes", "chat", "inline", "b"), 7),
        (("classes", "chat", "missing"), 5),
        (("classes",), 5),
        (("tenants", "a.b", "keys", 0), 10),
        (("many", 0, "one"), 13),
        (("service_tiers", "flex", "deep"), 16),
        (("service_tiers", "flex"), 15),
        (("nowhere",), None),
        ((), 2),
    ],
)
def test_lines(field: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, field) == line


@pytest.mark.parametrize(
    "text", ["", "[", "[[", "= 1", "[x = 1]", "a = 1 = 2", "\x00", "[a.]\nb = 1"]
)
def test_what_is_no_toml_has_no_line_and_raises_nothing(text: str) -> None:
    assert line_of(text, ("zzz", "b")) is None
