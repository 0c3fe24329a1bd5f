"""The vocabularies of failure: exceptions, codes, exit statuses."""

from __future__ import annotations

import pytest

from tunneler.errors import (
    CaptureError,
    Code,
    ConfigError,
    ConnectionFault,
    ExitStatus,
    LinkFault,
    LocalProtocolError,
    NotYetValid,
    PkiError,
    ProtocolError,
    RemoteProtocolError,
    TransportError,
    TunnelerError,
)


def test_zero_is_no_code() -> None:
    """A field that the sender forgot must not read as success."""
    assert 0 not in list(Code)
    assert int(Code.OK) == 1


@pytest.mark.parametrize("kind", [ConfigError, PkiError, CaptureError, TransportError, ProtocolError])
def test_one_root(kind: type[Exception]) -> None:
    assert issubclass(kind, TunnelerError)


def test_whose_fault_it_is() -> None:
    assert issubclass(ConnectionFault, RemoteProtocolError)
    assert issubclass(LinkFault, RemoteProtocolError)
    assert not issubclass(ConnectionFault, LinkFault)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_protocol_errors_carry_what_goes_on_the_wire() -> None:
    assert ConnectionFault("bad").code is Code.PROTOCOL
    fault = LinkFault("silent", Code.SILENT)
    assert (str(fault), fault.code) == ("silent", Code.SILENT)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tls.ca_file", "client.yaml: tls.ca_file: expected a path"),
        ("", "client.yaml: expected a path"),
    ],
)
def test_configuration_errors_name_source_and_key(key: str, text: str) -> None:
    error = ConfigError("client.yaml", key, "expected a path")
    assert str(error) == text
    assert (error.source, error.key, error.expected) == ("client.yaml", key, "expected a path")


def test_exit_statuses() -> None:
    assert list(ExitStatus) == [0, 1, 2, 3, 4]
    assert ConfigError("", "", "").exit_status is ExitStatus.USAGE
    assert PkiError("x").exit_status is ExitStatus.CREDENTIALS
    assert NotYetValid("x").exit_status is ExitStatus.FAILURE
    assert TransportError("x").exit_status is ExitStatus.FAILURE
