"""Which mistakes can be told before vLLM is imported? In a second, in one sentence.

vLLM finds them too, half a minute later and behind hundreds of lines.
"""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from scorpio.models.resolve import embedded_names
from scorpio.server.launch.typed import values_of
from scorpio.versions import installed_vllm, minor

FLAGS = Path(__file__).parent / "vllm_flags.json"  # `python -m tests.server.flags` writes it
OWN = (
    *("--policy", "--policy-option", "--shadow", "--shadow-option", "--slo-config", "--latency"),
    *(
        "--profile-mismatch",
        "--length-model",
        "--unsupported",
        "--run-dir",
        "--canary",
        "--profile",
    ),
    *("--replicas", "--router", "--ray-address"),
    *("--max-replicas", "--min-replicas", "--target-attainment"),
    *("--fallback-model", "--fallback-replicas", "--fallback-name", "--fallback-option"),
)
DEFAULT_PORT = 8000
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MODEL_FILES = ("config.json", "params.json")  # of Hugging Face, of Mistral


class ServeError(ValueError):
    """The server cannot be started as asked; one line that says why and what to do."""


def check_early(model: str, argv: Sequence[str]) -> None:
    """The model's name, the names of options, and whether the port is free.

    Raises:
        ServeError: vLLM would not start.
    """
    _check_model(model)
    flags = vllm_flags(minor("".join(installed_vllm()[1:])))
    for arg in argv:
        if arg == "--":
            break
        if arg.startswith("--"):
            _check_flag(arg, flags)
    _check_address(argv)


def vllm_flags(version: str) -> frozenset[str]:
    """Options of a minor version of vLLM's server; of all that are known, for another one."""
    known: dict[str, list[str]] = json.loads(FLAGS.read_text())
    flags = known.get(version, [flag for flags in known.values() for flag in flags])
    return frozenset([*known["all"], *flags])


def _check_model(name: str) -> None:
    if name in embedded_names():
        return
    if name.startswith((".", "/", "~")):
        path = Path(name)
        if not path.exists():
            raise ServeError(f"model {name!r}: no such directory")
        if path.is_dir() and not any((path / file).exists() for file in _MODEL_FILES):
            raise ServeError(f"model {name!r}: there is no {' or '.join(_MODEL_FILES)} in it")
    elif not _HUB_ID.fullmatch(name) and not Path(name).exists():
        raise ServeError(
            f"model {name!r}: neither a directory, nor an id of Hugging Face (ORGANISATION/NAME), "
            f"nor {' or '.join(embedded_names())}"
        )


def _check_flag(arg: str, flags: frozenset[str]) -> None:
    """vLLM takes `_` for `-`, beginnings of names, and `--name.key` for a key of an object."""
    typed = arg.partition("=")[0]
    name = typed.partition(".")[0].rstrip("+").replace("_", "-")
    if name not in OWN and any(flag.startswith(name) for flag in flags):
        return
    close = get_close_matches(name, [*OWN, *flags], 1)
    meant = f"did you mean {close[0]}?" if close else "see `scorpio serve --help` and vLLM's own"
    raise ServeError(f"unknown option {typed}: {meant}")


def _check_address(argv: Sequence[str]) -> None:
    given = values_of(argv)
    if given.keys() & {"--config", "--uds", "--fd"}:
        return  # the address is vLLM's to find out
    host = given.get("--host", "")
    try:
        port = int(given.get("--port", DEFAULT_PORT))
    except ValueError:
        raise ServeError(f"--port {given['--port']}: not a number") from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise ServeError(f"--port {port}: must be 0 to 65535") from None
        except OSError as error:
            place = f"{host or 'all addresses'}, port {port}"
            if error.errno == errno.EADDRINUSE:
                said = "in use by another server: choose another --port"
            else:
                said = error.strerror or str(error)
            raise ServeError(f"{place}: {said}") from None
