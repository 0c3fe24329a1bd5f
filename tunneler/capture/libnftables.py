"""nftables through libnftables and its JSON language: one function, :func:`run`.

libnftables(3) documents the calls, libnftables-json(5) the language. A binding of our own, because
the library's Python module comes with the distribution's Python alone and cannot be put in a virtual
environment. The library is loaded when it is first needed.
"""

from __future__ import annotations

import ctypes
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from tunneler.errors import CaptureError, CaptureUnavailable

LIBRARY = "libnftables.so.1"

NFT_CTX_DEFAULT = 0
NFT_CTX_OUTPUT_JSON = 1 << 4
NFT_CTX_OUTPUT_NUMERIC_ALL = 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10
"""nftables/libnftables.h: protocols, priorities, symbols and times as numbers."""

NETLINK_NETFILTER = 12
"""linux/netlink.h."""

NOT_PERMITTED = "not permitted"
"""strerror(3) of EPERM."""

Object = dict[str, Any]
"""One element of libnftables-json(5): ``{"add": …}``, ``{"chain": …}`` and so on."""


def run(commands: Sequence[Object]) -> list[Object]:
    """Run commands as one transaction, in the network namespace of the calling thread.

    Returns:
        What ``list`` commands had to say, without the leading ``metainfo``.

    Raises:
        CaptureError: the library is missing, or libnftables or the kernel refused; then nothing changed.
    """
    library = load()
    _require_netlink()
    with _context(library) as context:
        request = json.dumps({"nftables": list(commands)}).encode("ascii")
        status = library.nft_run_cmd_from_buffer(context, request)
        if status != 0:
            raise CaptureError(f"nftables refused: {_first_line(library.nft_ctx_get_error_buffer(context))}")
        output = library.nft_ctx_get_output_buffer(context)
    if not output.strip():
        return []
    return [item for item in json.loads(output)["nftables"] if "metainfo" not in item]


@cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        CaptureUnavailable: it is not installed.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CaptureUnavailable(f"{LIBRARY} cannot be loaded (Debian: libnftables1): {error}") from error
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.restype = None
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).restype = ctypes.c_int
        getattr(library, name).argtypes = [context]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [context]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    return library


@contextmanager
def _context(library: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    """A context for one run: its socket belongs to the namespace in which it was made."""
    context = library.nft_ctx_new(NFT_CTX_DEFAULT)
    if not context:
        raise CaptureError("libnftables has no memory for a context")
    try:
        library.nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_ALL)
        # Otherwise it writes to the standard output and error of the process.
        if library.nft_ctx_buffer_output(context) or library.nft_ctx_buffer_error(context):
            raise CaptureError("libnftables has no memory for its output")
        yield context
    finally:
        library.nft_ctx_free(context)


def _require_netlink() -> None:
    """See whether a netfilter socket can be had: where it cannot, libnftables ends the process.

    It calls exit(3) in netlink_init_error(), src/netlink.c.
    """
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER).close()
    except PermissionError as error:
        raise CaptureError(f"the kernel gives no netfilter socket: operation {NOT_PERMITTED}") from error
    except OSError as error:
        raise CaptureUnavailable(
            f"the kernel gives no netfilter socket ({error.strerror}): it lacks nf_tables,"
            " or this process may not use AF_NETLINK"
        ) from error


def _first_line(output: bytes) -> str:
    """The error itself; what follows points into the JSON text."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    error = lines[0].rpartition("Error: ")[2] if lines else "without a word"
    return f"{error}; it takes root or CAP_NET_ADMIN" if NOT_PERMITTED in error else error
