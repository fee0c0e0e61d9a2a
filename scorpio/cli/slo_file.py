"""What would an SLO file put in force, what holds it of a key, how does a server read it again?"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorpio.cli.errors import FAILED, UsageError, one_line_errors

if TYPE_CHECKING:
    from scorpio.settings import ScorpioSettings

LEAST_KEY_CHARS = 20  # a shorter one is found by trying
_NEW_KEY = "sk-scorpio-"


def check_config(
    file: Annotated[Path, typer.Argument(help="TOML file of `--slo-config`")],
) -> None:
    """Check an SLO file and say what it would put in force; exit code 1 when it is wrong."""
    from scorpio.server.accounts.slo_config import read_slo_file
    from scorpio.settings import SettingsError

    try:
        found = read_slo_file(file)
    except SettingsError as error:
        print(f"scorpio: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    for line in _lines(found.settings):
        print(line)
    print(f"{file}: good, sha256 {found.digest[:12]}")


def _lines(settings: ScorpioSettings) -> list[str]:
    from scorpio.server.accounts.slo_config import ONLY_FLEETS

    default = settings.default_class or "none"
    lines = [f"classes: {len(settings.classes)}, default {default}, raw SLOs: {settings.raw_slo}"]
    for name, entry in sorted(settings.classes.items()):
        lines.append(f"  {name}: {_fields(entry.model_dump(mode='json', exclude_none=True))}")
        if entry.fallback is not None:
            lines.append(f"  note: fallback of {name}: {ONLY_FLEETS}")
    keys = sum(len(tenant.keys) for tenant in settings.tenants.values())
    checked = "every request needs one" if keys else "those of vLLM's --api-key count, if any"
    lines += [f"tenants: {len(settings.tenants)}", f"API keys: {keys} ({checked})"]
    for name, tenant in sorted(settings.tenants.items()):
        own = tenant.model_dump(mode="json", exclude_none=True, exclude={"keys"})
        lines.append(f"  {name}: {_fields({'keys': len(tenant.keys)} | own)}")
        if keys and not tenant.keys:
            lines.append(f"  note: no key is bound to {name}")
    caps = {n: getattr(settings, n) for n in type(settings).model_fields if n.startswith("most_")}
    told = {name: value for name, value in caps.items() if value is not None}
    return [*lines, f"caps: {_fields(told)}"]


def _fields(fields: dict[str, object]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return "+".join(sorted(map(str, value))) or "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def reload(
    url: Annotated[str, typer.Option(help="the server")] = "http://localhost:8000",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change")] = False,
) -> None:
    """Let a server read its SLO file again; SCORPIO_ADMIN_TOKEN is its token."""
    from scorpio.live.control.admin import Admin
    from scorpio.server.accounts.admin_token import TOKEN_VARIABLE

    with one_line_errors():
        if not (token := os.environ.get(TOKEN_VARIABLE, "")):
            raise UsageError(f"{TOKEN_VARIABLE} is not set: it is the server's token")
        told = Admin(url.rstrip("/"), token).reload(dry_run)
        what = "would change" if dry_run else "changed"
        print(f"{what}: {', '.join(told.get('changed', [])) or 'nothing'}")
        if later := told.get("needs_restart"):
            print(f"in force after a restart: {', '.join(later)}")


def hash_key(
    stdin: Annotated[bool, typer.Option("--stdin", help="read the key; else a new one")] = False,
) -> None:
    """The line of an API key for `keys` of a tenant in the SLO file; never the key itself.

    A new key is printed once, on stderr: give it to the client.
    """
    from scorpio.tenant_settings import key_line

    with one_line_errors():
        if stdin:
            key = sys.stdin.readline().rstrip("\r\n")
            if len(key) < LEAST_KEY_CHARS or not key.isascii() or not key.isprintable():
                raise UsageError(
                    f"a key has at least {LEAST_KEY_CHARS} printable ASCII characters: "
                    "leave out --stdin for a new one"
                )
        else:
            key = _NEW_KEY + secrets.token_urlsafe(32)
            print(f"the key, for the client: {key}", file=sys.stderr)
        print(f'"{key_line(key)}"')
