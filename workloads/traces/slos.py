"""What does a row of a trace say of its SLO? Checked as the server does: a bad one shows here."""

from __future__ import annotations

from collections.abc import Mapping

from scorpio.core.slo import (
    XARG_CLASS,
    XARG_FIELDS,
    OnMiss,
    SloError,
    parse_ms,
    parse_on_miss,
    parse_predicted_tokens,
)
from workloads.traces.reading import shown

SLO_COLUMNS = (XARG_CLASS, *XARG_FIELDS)


def checked(xargs: Mapping[str, object], where: str) -> None:
    """Raises ValueError naming the field, behind `where`."""
    for key, value in xargs.items():
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"{where}{key:.40}: must be flat, got {shown(value)}")
    try:
        for name in XARG_FIELDS:
            if name in xargs:
                parse_ms(name, xargs[name])
        parse_on_miss(xargs, default=OnMiss.REJECT)
        parse_predicted_tokens(xargs)
    except SloError as error:
        raise ValueError(f"{where}{error}") from None


def slos_of(fields: Mapping[str, object]) -> dict[str, object]:
    """Class and SLOs of the columns of that name, as `vllm_xargs`; an empty one states nothing.
    Raises ValueError."""
    xargs: dict[str, object] = {}
    for name in SLO_COLUMNS:
        value = fields.get(name)
        if isinstance(value, str):
            value = value.strip()
        if value is None or value == "":
            continue
        xargs[name] = str(value) if name == XARG_CLASS else value
    checked(xargs, "")
    return {name: v if name == XARG_CLASS else float(str(v)) for name, v in xargs.items()}
