"""Field lists to header blocks and back (RFC 7541, by the hpack library), and what makes one valid.

The rules are those of RFC 9113 section 8.2 and 8.3; a list that breaks one is malformed, which
costs the peer the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from tunneler.http2.codes import ErrorCode, Http2Error, StreamError
from tunneler.http2.limits import MAX_HEADER_LIST, MAX_TABLE_CHANGES

Fields = list[tuple[bytes, bytes]]

_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A token (RFC 9110 section 5.6.2) without upper case."""

_VALUE: Final = re.compile(rb"(?![ \t])[^\x00\r\n]*(?<![ \t])", re.DOTALL)
"""Neither NUL, CR nor LF, nor white space around: section 8.2.1."""

_TABLE_CHANGES: Final = re.compile(
    rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){%d}" % (MAX_TABLE_CHANGES + 1), re.DOTALL
)
"""More of them than there may be: RFC 7541 section 6.3."""

_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)

_REQUEST: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_REQUIRED: Final = _REQUEST - {b":authority"}
_RESPONSE: Final = frozenset({b":status"})


class HeaderCodec:
    """Both directions of one connection; each keeps a table that the peer's copy must equal."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)

    def set_table_size(self, size: int) -> None:
        """Use no larger a table than the peer keeps for us, in bytes."""
        if self._encoder.header_table_size != size:
            self._encoder.header_table_size = size

    def encode(self, fields: Iterable[tuple[str, str]]) -> bytes:
        return self._encoder.encode(fields)

    def decode(self, block: bytes) -> Fields:
        """Read one block.

        Raises:
            Http2Error: it cannot be read, so the tables no longer agree; or the list is too long.
        """
        if _TABLE_CHANGES.match(block):
            raise Http2Error("too many changes of the header table", ErrorCode.ENHANCE_YOUR_CALM)
        try:
            return [(field[0], field[1]) for field in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise Http2Error(
                f"a field list of more than {MAX_HEADER_LIST} bytes", ErrorCode.ENHANCE_YOUR_CALM
            ) from error
        except HPACKError as error:
            raise Http2Error("a header block that cannot be read", ErrorCode.COMPRESSION_ERROR) from error


def check_request(fields: Fields) -> None:
    """Raises StreamError: not a well-formed request (section 8.3.1)."""
    names = _check(fields, _REQUEST)
    values = dict(fields)
    if not names >= _REQUIRED or not values[b":path"]:
        raise StreamError("a request without :method, :scheme or :path")


def check_response(fields: Fields) -> None:
    """Raises StreamError: not a well-formed response (section 8.3.2)."""
    if not _check(fields, _RESPONSE) >= _RESPONSE:
        raise StreamError("a response without :status")


def check_trailers(fields: Fields) -> None:
    """Raises StreamError: not well-formed trailers (section 8.1)."""
    _check(fields, frozenset())


def _check(fields: Fields, pseudo: frozenset[bytes]) -> set[bytes]:
    """Check every field; return the pseudo-fields there are."""
    seen: set[bytes] = set()
    regular = False
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise StreamError("a field with characters that none may have")
        if name[0] == ord(":"):
            if regular or name in seen or name not in pseudo:
                raise StreamError(f"the pseudo-field {name.decode()} here")
            seen.add(name)
            continue
        regular = True
        if name in _OF_THE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise StreamError(f"the field {name.decode()} here")
    return seen
