"""Why can a model not be used? One line for the user, always with what to do next."""

from __future__ import annotations


class ModelUnavailable(RuntimeError):
    """The model could not be fetched or converted; the message says what to do."""


class DamagedModel(RuntimeError):
    """The files of a model directory are not the ones its manifest lists."""
