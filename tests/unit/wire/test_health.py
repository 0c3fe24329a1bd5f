from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from tunneler.wire.health import ServingStatus, read_request, response


def message_class(field: str, kind: int) -> Any:
    """A message with one field, as protobuf's own runtime has it."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{field}.proto", syntax="proto3")
    file.message_type.add(name=field).field.add(name=field, number=1, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(field))


REQUEST = message_class("service", descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
RESPONSE = message_class("status", descriptor_pb2.FieldDescriptorProto.TYPE_INT32)


@given(st.text())
def test_a_request_is_read_as_protobuf_wrote_it(service: str) -> None:
    assert read_request(REQUEST(service=service).SerializeToString()) == service


@pytest.mark.parametrize("status", ServingStatus)
def test_protobuf_reads_the_response(status: ServingStatus) -> None:
    assert RESPONSE.FromString(response(status)).status == status


@given(st.binary(max_size=40))
@settings(max_examples=2000)
def test_whatever_is_read_protobuf_reads_alike(message: bytes) -> None:
    try:
        service = read_request(message)
    except ValueError:
        return
    assert REQUEST.FromString(message).service == service


@pytest.mark.parametrize(
    "message",
    [
        b"\x12\x03abc",  # another field of the same type
        b"\x10\xff\xff\x03",
        b"\x15abcd",
        b"\x11abcdefgh",
        b"\x0a\x01x",  # a field of ours that a later one overrides
    ],
)
def test_other_fields_are_passed_over(message: bytes) -> None:
    assert read_request(message + b"\x0a\x02me") == "me"


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\x02\xff\xfe",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x10",
        b"\x11abc",
        b"\x0b",  # a group
        b"\x00\x00",  # there is no field 0
        b"\xff" * 50,
    ],
)
def test_not_a_request(message: bytes) -> None:
    with pytest.raises(ValueError):
        read_request(message)
