"""Secrets kept out of whatever is shown: those of URIs by their place, and wherever else they turn up by their letters.

A URI carries them before the ``@`` and in values such as ``?pwd=…``. `redacted` needs to know nothing else of it; what
`register` was told of, `scrub` also finds in the words of libraries and servers, in every form in which it travels.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"

SHORTEST = 3
"""Letters of the shortest secret that `scrub` looks for: a shorter one would tear holes into every other word."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")
_USERS = (
    re.compile(r"(\A[A-Za-z][A-Za-z0-9+.-]*://)([^/?#]+)@"),  # a URI alone may have a blank in its password
    re.compile(r"(://)([^\s/?#]+)@"),
    # A password with an unescaped slash or question mark: no valid URI, but what people type. A port is digits alone.
    re.compile(r"(://)([^\s/?#@:]+:(?!\d*(?:[/?#]|$))[^\s@]*)@"),
)
_VALUE = re.compile(
    r"(?i)(?<![A-Za-z0-9])([\w.%-]*?(?:pass|pwd|token|key|secret|auth|sig|cred|user|usr|login)[\w.%-]*=)"
    r"(?!\*\*\*)(.+?)(?=[&;#\s]|_[a-z]+=|$)"
)
"""In a query, and in paths as some cameras have them: ``/user=admin_password=…_channel=1``."""
_SECRET_NAME = re.compile(r"(?i)pass|pwd|token|key|secret|auth|sig|cred")

_lock = threading.Lock()
_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def redacted(uri: str) -> str:
    """A URI, or any text with URIs in it, without user names, passwords and the values that look like secrets.

    Applied to its own result it changes nothing.
    """
    if "://" not in uri:
        return uri
    for user in _USERS:
        uri = user.sub(rf"\1{MASK}@", uri)
    return _URI.sub(lambda found: _VALUE.sub(rf"\1{MASK}", found[0]), uri)


def register(uri: str) -> None:
    """Remember the secrets of a URI for `scrub`; user names are not, since those are words of other texts as well."""
    _remember(_secrets_of(uri))


def register_variable(name: str, value: str) -> None:
    """Remember the value of a variable whose name says that it is a secret, wherever in a URI it comes to stand."""
    if _SECRET_NAME.search(name):
        _remember((value,))


def _remember(secrets: Iterable[str]) -> None:
    global _pattern
    new = {secret for secret in secrets if len(secret) >= SHORTEST}
    if not new:
        return
    with _lock:
        _secrets.update(new)
        forms = sorted({form for secret in _secrets for form in _forms(secret)}, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, forms)))


def scrub(text: str) -> str:
    """A text without any registered secret, longest first, and with every URI in it `redacted`."""
    text = redacted(text)
    return _pattern.sub(MASK, text) if _pattern else text


class Scrubbing(logging.Filter):
    """Scrubs what a handler is about to write: the message with its arguments, exceptions, stacks and extra fields.

    Give it to handlers, not to loggers, whose filters do not see what comes from loggers below them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Scrub a record; it always passes."""
        try:
            said = record.getMessage()
        except Exception:  # logging would print message and arguments as they are
            said = str(record.msg)
            record.msg, record.args = scrub(said), ()
        if (clean := scrub(said)) != said:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = record.exc_text or logging.Formatter().formatException(record.exc_info)
            if (clean := scrub(trace)) != trace:
                record.exc_info, record.exc_text = None, clean
        for name, value in list(vars(record).items()):
            if isinstance(value, str) and name != "msg" and (clean := scrub(value)) != value:
                setattr(record, name, clean)
        return True


def _secrets_of(uri: str) -> Iterator[str]:
    for user in filter(None, (pattern.search(uri) for pattern in _USERS)):
        name, _, password = user[2].partition(":")
        if password not in ("", MASK):
            yield from (password, unquote(password))
            # What "Authorization: Basic" carries (RFC 7617).
            yield base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode(errors="replace")).decode()
    for found in _URI.finditer(uri):
        for value in _VALUE.finditer(found[0]):
            if not re.match(r"(?i)[\w.%-]*(?:user|usr|login)[\w.%-]*=", value[1]):
                yield from (value[2], unquote(value[2]), unquote_plus(value[2]))


def _forms(secret: str) -> set[str]:
    """As it stands, escaped for a URI in the usual ways, and as Python and JSON write a string."""
    escaped = {quote(secret, safe=""), quote(secret), quote_plus(secret)} if secret.isprintable() else set()
    lower = {re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in escaped}
    return {secret, *escaped, *lower, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
