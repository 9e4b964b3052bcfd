from __future__ import annotations

import pytest

from rtpsp.errors import UsageError
from rtpsp.outside.address import to_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (9464, "127.0.0.1", 9464), ("9464", "127.0.0.1", 9464), (":9464", "127.0.0.1", 9464), (0, "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80), ("[::1]:9464", "::1", 9464), ("[::]:65535", "::", 65535),
        ("localhost:1", "localhost", 1), (" monitor.lan:9464 ", "monitor.lan", 9464),
    ],
)  # fmt: skip
def test_without_a_host_only_this_machine_hears(text: str | int, host: str, port: int) -> None:
    address = to_address(text)
    assert address == (host, port)
    assert to_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", ":65536", ":99999", -1, "::1", "::1:9464", "[]:1", "a b:1", "http://x:1", "x:1/metrics",
     ":\uff19464", "a@b:1", "[::1]"],
)  # fmt: skip
def test_what_is_no_address_is_said(text: str | int) -> None:
    with pytest.raises(UsageError, match=r"no address to listen at: give a port or HOST:PORT, such as :9464"):
        to_address(text)
