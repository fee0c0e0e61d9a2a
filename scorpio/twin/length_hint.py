"""What are policies told of how long answers will be?"""

from __future__ import annotations

from dataclasses import dataclass

PREDICTORS = ("trained", "histogram", "constant", "adversarial")


@dataclass(frozen=True, slots=True)
class LengthHint:
    """What policies are told about output lengths: a predictor's word (scorpio/twin/predictions.py)
    or, without one, the truth times a lognormal error.

    sigma: of the log error; 0 = oracle, None = nothing is told. Errors are drawn per request
    from the run's seed, so all policies see the same predictions. bias multiplies them all.
    """

    sigma: float | None = 0.6
    predictor: str | None = None
    bias: float = 1.0

    def __post_init__(self) -> None:
        if self.sigma is not None and not 0.0 <= self.sigma <= 5.0:
            raise ValueError(f"length error must be in [0, 5], got {self.sigma!r}")
        if self.predictor not in (None, *PREDICTORS):
            raise ValueError(f"unknown predictor {self.predictor!r}")
        if not 0.0 < self.bias < 100.0:
            raise ValueError(f"length bias must be in (0, 100), got {self.bias!r}")

    @classmethod
    def parse(cls, text: str) -> LengthHint:
        """`none`, `oracle`, a predictor, or a number (sigma of the log error)."""
        if text in PREDICTORS:
            return cls(None, text)
        named = {"none": None, "oracle": 0.0}
        try:
            return cls(named[text] if text in named else float(text))
        except ValueError:
            names = ", ".join(("none", "oracle", *PREDICTORS))
            raise ValueError(f"length hint {text!r}: use {names} or a number 0..5") from None
