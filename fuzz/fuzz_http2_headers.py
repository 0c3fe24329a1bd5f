"""Fuzz header blocks and what is read out of them.

Invariant: whatever blocks arrive on one connection, each is a field list or a declared error;
no list is larger than its limit, nor the table; what makes a list valid, and what it says of a
call, is decided without any other exception. What we write reads the same at the other end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler", "hpack"]):
    from fuzz.steps import crossed, mutator, parse
    from tunneler.errors import TunnelerError
    from tunneler.http2.codes import CallError, Http2Error, NotGrpcError, Status, StreamError
    from tunneler.http2.grpc import (
        RESPONSE_FIELDS,
        Outcome,
        Request,
        content_length_of,
        http_status_of,
        outcome_of,
        refusal_fields,
        request_fields,
        request_of,
        trailer_fields,
    )
    from tunneler.http2.headers import (
        Fields,
        HeaderCodec,
        check_request,
        check_response,
        check_trailers,
    )
    from tunneler.http2.limits import MAX_HEADER_LIST
    from tunneler.http2.settings import DEFAULT_TABLE

KINDS = 4


def one_input(data: bytes) -> None:
    """A script: blocks, fields, changes of the table's size; all on one connection."""
    reader, writer, other_end = HeaderCodec(), HeaderCodec(), HeaderCodec()
    for step in parse(data):
        match step.kind % KINDS:
            case 0:
                if not read_block(reader, step.content):
                    return
            case 1:
                judge(listed(step.content))
            case 2:
                round_trip(writer, other_end, step.content)
            case _:
                writer.set_table_size(min(DEFAULT_TABLE, int.from_bytes(step.content[:2], "big")))


def read_block(reader: HeaderCodec, block: bytes) -> bool:
    """Return whether the connection survives it."""
    # The step's bytes twice: once to fill the table, once to use it.
    for _ in range(2):
        try:
            fields = reader.decode(block)
        except Http2Error:
            return False
        assert sum(len(name) + len(value) + 32 for name, value in fields) <= MAX_HEADER_LIST
        assert reader._decoder.header_table._current_size <= DEFAULT_TABLE  # noqa: SLF001
        judge(fields)
    return True


def listed(content: bytes) -> Fields:
    """Lines of a name and a value, at once: what needs no luck with lengths."""
    lines = [line.partition(b"=") for line in content.split(b"\n")]
    return [(name, value) for name, _, value in lines]


def judge(fields: Fields) -> None:
    if passes(check_request, fields):
        judge_request(fields)
    if passes(check_response, fields):
        judge_response(fields)
    if passes(check_trailers, fields):
        judge_outcome(outcome_of(fields))


def passes(check: Callable[[Fields], Any], fields: Fields) -> bool:
    try:
        check(fields)
    except StreamError as error:
        shown(error)
        return False
    for name, value in fields:
        assert name
        assert name == name.lower()
        assert not {0, 10, 13} & {*name, *value}
    return True


def shown(error: TunnelerError) -> None:
    """An operator's log takes it."""
    assert str(error).isprintable()


def judge_request(fields: Fields) -> None:
    try:
        request = request_of(fields)
    except (NotGrpcError, CallError, StreamError) as error:
        shown(error)
    else:
        assert isinstance(request, Request)
        assert request.path
        assert request.timeout is None or 0 <= request.timeout < 4e11
        assert request.content_length is None or 0 <= request.content_length < 10**18


def judge_response(fields: Fields) -> None:
    try:
        status = http_status_of(fields)
        content_length_of(fields)
    except StreamError:
        return
    assert 100 <= status <= 999
    judge_outcome(outcome_of(fields))


def judge_outcome(outcome: Outcome) -> None:
    assert outcome.status in Status
    assert str(outcome).isprintable()
    assert len(str(outcome)) < 900


def round_trip(writer: HeaderCodec, other_end: HeaderCodec, content: bytes) -> None:
    path = "/" + content[1:].decode("latin-1").encode("ascii", "ignore").decode()
    choice = content[0] if content else 0
    fields = [
        request_fields(path, "server:443", secure=bool(choice & 8)),
        RESPONSE_FIELDS,
        trailer_fields(Status(choice % len(Status))),
        refusal_fields(405 if choice & 8 else 415),
    ][choice % 4]
    read = other_end.decode(writer.encode(fields))
    assert read == [(name.encode(), value.encode()) for name, value in fields]


def by_atheris(content: bytes, most: int) -> bytes:
    """Look atheris.Mutate up when it is needed: it is another function once the fuzzer runs."""
    return bytes(atheris.Mutate(content, most))


def main() -> None:
    mutated = mutator(KINDS, by_atheris)
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated, custom_crossover=crossed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
