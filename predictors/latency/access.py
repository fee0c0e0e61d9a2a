"""How does a client get into a server that asks for a key, or has a certificate of its own?"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """headers: of each request. certificate: a PEM file; the server has this one, or one that it
    has signed, whatever name is in it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    certificate: Path | None = None

    def tls(self) -> ssl.SSLContext:
        """Raises OSError: the file is not there, or no certificate."""
        if self.certificate is None:
            return ssl.create_default_context()
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be a root
        return context


OPEN = Access()
