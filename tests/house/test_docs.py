"""Are the documents a reader's, not a notebook? Length, links, words, numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorpio.core.plan import RejectReason
from scorpio.core.slo import Slo
from scorpio.core.wire import RejectionNotice
from scorpio.server.request.rejection import refusal_answer
from scorpio.studies.results import PAGES, STUDIES, page_text, read_page
from scorpio.studies.study import Study

ROOT = Path(__file__).parents[2]
MOST_LINES, MOST_IN_README = 200, 100
HISTORY = ("CHANGELOG.md", "docs/notebook.md")
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "predictors/*.md", "deploy/*.md")
    for path in sorted(ROOT.glob(pattern))
}
WRITTEN = [name for name in TEXTS if name.startswith("docs/results/")]  # by commands
BY_HAND = [name for name in TEXTS if name not in WRITTEN and name not in HISTORY]
_BLOCK = re.compile(r"<!-- (\w+): begin -->\n(.*?)<!-- \1: end -->\n", re.DOTALL)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Of another time: what the words are now stands in docs/glossary.md.
OLD_WORDS = (
    *("contestant", "foretold", "let go", "growingbatch"),
    *("whoever", "nobody", "somebody", "everybody", "anybody"),  # requests are no people
)
REFUSED_ID = "chatcmpl-9d41c0f2"
CODE = [
    path
    for top in ("scorpio", "predictors", "workloads", "tests")
    for path in (ROOT / top).rglob("*.py")
    if path != Path(__file__)
]


def prose(name: str) -> str:
    """Without what a command writes and what is code."""
    return _FENCE.sub("", _BLOCK.sub("", TEXTS[name]))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_page_is_read_in_one_sitting(name: str) -> None:
    most = MOST_IN_README if name == "README.md" else MOST_LINES
    assert len(TEXTS[name].splitlines()) <= most


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", [*BY_HAND, *WRITTEN])
def test_every_link_leads_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", TEXTS[name]):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{name}: {target}#{anchor}"


@pytest.mark.parametrize("name", BY_HAND)
def test_no_history_and_no_number_of_a_run(name: str) -> None:
    text = prose(name)
    assert not re.findall(r"\bcommit [0-9a-f]{7}\b|\bscratch\b", text, re.IGNORECASE)
    assert not re.findall(r"\d+\.\d \(\d+\.\d ?(?:-|to) ?\d+\.\d\)", text)


@pytest.mark.parametrize("name", BY_HAND)
def test_words_are_those_of_the_glossary(name: str) -> None:
    text = prose(name).lower()
    assert not [word for word in OLD_WORDS if re.search(rf"\b{word}\b", text)]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_of_code_are_those_of_the_glossary(path: Path) -> None:
    text = path.read_text().lower().replace("_", " ")
    assert not [word for word in OLD_WORDS if re.search(rf"\b{word}\b", text)]


@pytest.mark.parametrize("top", ["scorpio", "predictors", "workloads", "tests"])
def test_code_has_one_name_for_one_thing(top: str) -> None:
    """Names that a thing had beside its own (docs/glossary.md)."""
    old = re.compile(
        r"\b(contestant|WorkloadKey|BoundKey|GrowingBatch|OwedTime|foretold)s?\b", re.I
    )
    pages = [p for p in (ROOT / top).rglob("*.py") if p != Path(__file__)]
    assert not [str(p) for p in pages if old.search(p.read_text())]


def test_the_notebook_is_on_no_reader_s_way() -> None:
    assert not [name for name in BY_HAND if "(notebook.md" in TEXTS[name]]


@pytest.mark.parametrize("study", [s for s in STUDIES if (PAGES / f"{s.name}.json").exists()])
def test_pages_and_blocks_are_what_their_numbers_say(study: Study) -> None:
    head, rows = read_page(PAGES / f"{study.name}.json")
    page = study.page(rows)
    assert page_text(study, page, head) == (PAGES / f"{study.name}.md").read_text()
    for (name, block), text in page.blocks.items():
        assert dict(_BLOCK.findall(TEXTS[name]))[block] == text


def test_the_refusal_in_the_readme_is_the_server_s() -> None:
    notice = RejectionNotice(RejectReason.TTFT_INFEASIBLE, 2400, 2400)
    slo, words = Slo(ttft_s=0.5, tpot_s=0.05), {"slo_ttft_ms": "x-slo-ttft-ms"}  # its curl's
    answer = refusal_answer(notice, slo, 429, request_id=REFUSED_ID, words=words)
    lines = ["HTTP/1.1 429 Too Many Requests"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += ["content-type: application/json", "", answer.body.decode()]
    shown = dict(_BLOCK.findall(TEXTS["README.md"]))["refusal"]
    assert shown == "```\n" + "\n".join(lines) + "\n```\n"
