"""This host: which addresses are its own alone, and what it is called."""

from __future__ import annotations

import re
import secrets
import socket
from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether traffic for ``host`` cannot leave this machine: 127.0.0.0/8, ::1 or the name localhost.

    No other name is trusted: what it resolves to may change after the check (RFC 6761,
    section 6.3 reserves this one).
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback


def name_of_this_host() -> str:
    """The host's name, in the alphabet of identifiers; at most 48 characters."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:48] or "unnamed"


def new_instance_name() -> str:
    """A name that no other running instance has: the host's, and 32 random bits."""
    return f"{name_of_this_host()}-{secrets.token_hex(4)}"
