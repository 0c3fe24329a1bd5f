"""Whether anybody listens where captured connections are redirected to, or has some: sock_diag(7).

/proc/net/tcp would say so too, but takes milliseconds however few sockets there are: the kernel walks
its table of all connections of all network namespaces.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST: Final = 0x01
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
"""linux/netlink.h, linux/sock_diag.h."""

LISTENING: Final = 1 << 10
OPEN: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11
"""Masks of states (net/tcp_states.h): LISTEN; ESTABLISHED, FIN_WAIT1 and 2, CLOSE_WAIT, LAST_ACK, CLOSING."""

_HEADER: Final = struct.Struct("@IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_QUESTION: Final = struct.Struct("@BBBxI2s46x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, and of the socket's id the port."""

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
ANSWER_SIZE: Final = 1 << 15
"""As large as the kernel makes a message of a dump (netlink_dump in net/netlink/af_netlink.c)."""
ANSWER_TIMEOUT: Final = 1.0


def is_heard(port: int) -> bool:
    """Whether a TCP socket listens on this port, on whatever address, in this network namespace.

    Where the kernel cannot tell (it has no inet_diag), the answer is yes.
    """
    return any(_is_there(family, port, LISTENING) for family in FAMILIES)


def has_connections(port: int) -> bool:
    """Whether a TCP connection is open whose end at this host has this port; as above."""
    return any(_is_there(family, port, OPEN) for family in FAMILIES)


def _is_there(family: socket.AddressFamily, port: int, states: int) -> bool:
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, states, port.to_bytes(2, "big"))
    length = _HEADER.size + len(question)
    header = _HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(ANSWER_TIMEOUT)
            kernel.send(header + question)
            answer = kernel.recv(ANSWER_SIZE)
    except OSError:
        return True
    _, kind, *_ = _HEADER.unpack_from(answer)
    # Sockets come first; where there is none, the first message is the last: NLMSG_DONE.
    return kind in (SOCK_DIAG_BY_FAMILY, NLMSG_ERROR)
