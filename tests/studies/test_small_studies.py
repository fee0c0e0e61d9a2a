"""Do studies of one kind of run go from cells to a page? On the synthetic trace, in seconds."""

from __future__ import annotations

from scorpio.studies import fleet, quotes, step_tracking
from scorpio.studies.study import Rows, Study


def rows_of(study: Study) -> Rows:
    return study.rows([(task, task.run()) for task in study.cells(True)])


def test_the_fleet_page() -> None:
    rows = rows_of(fleet.STUDY)
    assert [row["router"] for row in rows] == ["promises", "round-robin"]
    assert all(row["failed"] == 0 and row["replicas"] == 2 for row in rows)
    text = fleet.STUDY.page(rows).text
    ratio = rows[0]["kept"][0] / rows[1]["kept"][0]
    assert f"{ratio:.3f} (`round-robin`)" in text
    others = [row | {"what": what} for row in rows for what in ("size", "loss")]
    assert "## From 1 to 2 replicas" in fleet.STUDY.page(others).text
    assert "## One of 8 dies" in fleet.STUDY.page(others).text


def test_the_speed_that_is_followed_is_nearer_to_what_steps_take() -> None:
    rows = rows_of(step_tracking.STUDY)
    error = {(row["changed"], row["learned"]): row["error"] for row in rows}
    for change in ("everything x 1.3", "context x 2", "base x 2, context x 0.5"):
        assert error[change, True] < 0.6 * error[change, False]
    assert abs(error["nothing", True] - error["nothing", False]) < 0.5
    assert "| everything x 1.3 | followed |" in step_tracking.STUDY.page(rows).text


def test_quotes_hold_where_more_is_offered_than_can_be_served() -> None:
    rows = rows_of(quotes.STUDY)
    quoted, back = rows
    given = sum(quoted[name] for name in ("held", "later", "refused", "slower", "sooner"))
    assert given + quoted["none"] == 24
    assert quoted["held"] / given > 0.6  # the first ones, of which nothing was learned, among them
    assert back["refused"] >= back["again"] >= back["served"] >= back["good"] > 0
    text = quotes.STUDY.page(rows).text
    assert f"| {given} | {100 * quoted['held'] / given:.1f} |" in text
