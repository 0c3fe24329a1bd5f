"""Runs ``tunneler`` as on a kernel that has neither nf_tables nor ip_tables.

A seccomp filter (seccomp(2)) answers in the kernel's place what such a kernel would: there are no netlink
sockets of netfilter, and the legacy tables' socket options do not exist.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""linux/bpf_common.h."""
ALLOW, ANSWER = 0x7FFF0000, 0x00050000
"""SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO."""
SOCKET, GETSOCKOPT = {"x86_64": (41, 55), "aarch64": (198, 209)}[platform.machine()]
"""asm/unistd.h."""
NUMBER, FIRST, THIRD = 0, 16, 32
"""Offsets in struct seccomp_data: of the call's number, and of the lower halves of its arguments."""
AF_NETLINK, NETLINK_NETFILTER, IPT_SO_GET_INFO = 16, 12, 64

PROGRAM = (
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 4, SOCKET),
    (LOAD, 0, 0, FIRST),
    (JUMP_IF_EQUAL, 0, 6, AF_NETLINK),
    (LOAD, 0, 0, THIRD),
    (JUMP_IF_EQUAL, 3, 4, NETLINK_NETFILTER),
    (JUMP_IF_EQUAL, 0, 3, GETSOCKOPT),
    (LOAD, 0, 0, THIRD),
    (JUMP_IF_EQUAL, 2, 1, IPT_SO_GET_INFO),
    (RETURN, 0, 0, ANSWER | errno.EPROTONOSUPPORT),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, ANSWER | errno.ENOPROTOOPT),
)


def take_packet_filters_away() -> None:
    """From this process and its children, for good."""
    instructions = b"".join(struct.pack("@HBBI", *instruction) for instruction in PROGRAM)
    code = ctypes.create_string_buffer(instructions)
    program = struct.pack("@HxxxxxxP", len(PROGRAM), ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    from tunneler.cli.main import main

    take_packet_filters_away()
    main()
