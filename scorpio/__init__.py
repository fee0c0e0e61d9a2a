"""Scorpio: SLO-aware scheduling for stock vLLM."""

__version__ = "0.1.0"
