"""Where a server listens, as people write it."""

from __future__ import annotations

import re
from typing import NamedTuple

from rtpsp.errors import UsageError

LOOPBACK = "127.0.0.1"
_FORM = re.compile(r"(?:(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]/@\s]*)):)?(?P<port>[0-9]{1,5})", re.ASCII)


class Address(NamedTuple):
    """A host, by name or number, and a port; 0 is one that the system chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def to_address(text: str | int) -> Address:
    """An address from ``:9464``, ``9464``, ``0.0.0.0:9464`` or ``[::1]:9464``; without a host only this machine hears.

    Raises:
        UsageError: It is none of these.
    """
    found = _FORM.fullmatch(str(text).strip())
    if found is None or int(found["port"]) > 65535 or found["six"] == "":
        raise UsageError(f"{str(text)!r} is no address to listen at: give a port or HOST:PORT, such as :9464")
    return Address(found["six"] or found["host"] or LOOPBACK, int(found["port"]))
