"""What can go wrong, and whose fault it is.

Three vocabularies live here and nowhere else:

* the exception tree, for code that runs in this process;
* :class:`Code`, the only thing said about a failure on the wire (never prose: a peer's
  words are not ours to log as truth, nor ours to leak);
* :class:`ExitStatus`, for the process that started us.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Code(IntEnum):
    """Why an open failed, a connection was reset or a link was closed.

    The values are those of ``enum Code`` in ``wire/tunnel.proto``. Zero is not a code: a
    field that the sender forgot must not read as success.
    """

    OK = 1
    # Truths about the target, found by the proxy when it dialled.
    REFUSED = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    # Decisions of the server or the proxy.
    NO_ROUTE = 5
    DENIED = 6
    LIMITED = 7
    DRAINING = 8
    # Ends of a connection that did open.
    RESET_BY_PEER = 9  # a TCP reset arrived at the other end
    IDLE = 10
    LINK_LOST = 11
    UNKNOWN_CONNECTION = 12
    # Faults of the peer.
    PROTOCOL = 13
    FLOW_CONTROL = 14
    VERSION = 15
    CONFLICT = 16
    # Ends of a link that are nobody's fault.
    REPLACED = 17
    SILENT = 18
    # Our own fault.
    INTERNAL = 19


@unique
class ExitStatus(IntEnum):
    """Exit status of every program of the suite.

    ``USAGE`` covers flags and configuration alike (what click and argparse use for usage
    errors; BSD's EX_CONFIG, 78, would say the same again). With ``CREDENTIALS`` and ``UNSUPPORTED`` (this
    host lacks something) as little as with ``USAGE`` can it help to start again unchanged:
    ``RestartPreventExitStatus=2 3 4``. systemctl shows them by the names that the LSB has for the same
    numbers: INVALIDARGUMENT, NOTIMPLEMENTED, NOPERMISSION.
    """

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNSUPPORTED = 3
    CREDENTIALS = 4


class TunnelerError(Exception):
    """Base of every error that the suite raises on purpose; its text is one line for an operator."""

    exit_status = ExitStatus.FAILURE


class ConfigError(TunnelerError):
    """The operator's configuration cannot be used.

    Args:
        source: the file, environment variable or flag at fault.
        key: dotted path of the key inside it, or "" when the source as a whole is at fault.
        expected: what would have been right, and for an unknown key what was probably meant.
    """

    exit_status = ExitStatus.USAGE

    def __init__(self, source: str, key: str, expected: str) -> None:
        self.source = source
        self.key = key
        self.expected = expected
        super().__init__(": ".join(part for part in (source, key, expected) if part))


class PkiError(TunnelerError):
    """A certificate or key is missing, unreadable, in the way, or not fit for its role."""

    exit_status = ExitStatus.CREDENTIALS


class NotYetValid(PkiError):
    """A certificate's time has not come. It may be the clock's fault, which machines set after they start."""

    exit_status = ExitStatus.FAILURE


class CaptureError(TunnelerError):
    """The kernel's packet filter did not do what was asked, or said so badly."""


class CaptureUnavailable(CaptureError):
    """This host has no packet filter that can be used: the kernel or a library is not there."""

    exit_status = ExitStatus.UNSUPPORTED


class NoSuchUser(CaptureError):
    """The configuration names a user whom this host does not have."""

    exit_status = ExitStatus.USAGE


class TransportError(TunnelerError):
    """A link could not be made or carried on: the network, TLS, or the peer's transport."""


class ProtocolError(TunnelerError):
    """Somebody broke the protocol; ``code`` is what goes on the wire about it.

    Subclasses say who: our own code (a bug here), or the peer.
    """

    def __init__(self, message: str, code: Code = Code.PROTOCOL) -> None:
        super().__init__(message)
        self.code = code


class LocalProtocolError(ProtocolError):
    """This process asked the core for something that the protocol does not allow: a bug."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow. It costs the peer its connection or its link."""


class ConnectionFault(RemoteProtocolError):
    """A :class:`RemoteProtocolError` confined to one connection: that connection is reset."""


class LinkFault(RemoteProtocolError):
    """A :class:`RemoteProtocolError` after which nothing on the link can be trusted: it is closed."""
