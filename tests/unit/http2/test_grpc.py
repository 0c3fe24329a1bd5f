"""What field lists say of calls: grpc/doc/PROTOCOL-HTTP2.md, http-grpc-status-mapping.md."""

from __future__ import annotations

import pytest

from tunneler.http2.codes import CallError, NotGrpcError, Status, StreamError
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
from tunneler.http2.headers import Fields, check_request, check_response, check_trailers

GRPC = (b"content-type", b"application/grpc")
HEAD: Fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a.B/C")]


def as_read(fields: list[tuple[str, str]]) -> Fields:
    return [(name.encode(), value.encode()) for name, value in fields]


class TestOurs:
    @pytest.mark.parametrize("secure", [False, True])
    def test_request(self, secure: bool) -> None:
        fields = as_read(request_fields("/a.B/C", "server:443", secure=secure))
        check_request(fields)
        assert request_of(fields) == Request("/a.B/C", None, None)
        assert dict(fields)[b":scheme"] == (b"https" if secure else b"http")
        assert dict(fields)[b":authority"] == b"server:443"
        assert dict(fields)[b"te"] == b"trailers", "grpc servers insist on it"

    def test_response(self) -> None:
        fields = as_read(RESPONSE_FIELDS)
        check_response(fields)
        assert http_status_of(fields) == 200
        assert GRPC in fields

    @pytest.mark.parametrize("status", Status)
    def test_trailers(self, status: Status) -> None:
        fields = as_read(trailer_fields(status))
        check_trailers(fields)
        assert outcome_of(fields) == Outcome(status, "")
        assert fields == [(b"grpc-status", str(int(status)).encode())], "no prose on the wire"

    def test_refusal(self) -> None:
        fields = as_read(refusal_fields(415))
        check_response(fields)
        assert http_status_of(fields) == 415


class TestRequest:
    @pytest.mark.parametrize(
        "content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"]
    )
    def test_content_types(self, content_type: bytes) -> None:
        assert request_of([*HEAD, (b"content-type", content_type)]).path == "/a.B/C"

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ([*HEAD], 415),
            ([*HEAD, (b"content-type", b"text/html")], 415),
            ([*HEAD, (b"content-type", b"application/grpcweb")], 415),
            ([*HEAD, (b"content-type", b"application/grpc-web")], 415),
            ([*HEAD, (b"content-type", b"Xapplication/grpc")], 415),
            ([(b":method", b"GET"), *HEAD[1:], GRPC], 405),
            ([(b":method", b"post"), *HEAD[1:], GRPC], 405),
        ],
    )
    def test_not_grpc(self, fields: Fields, status: int) -> None:
        with pytest.raises(NotGrpcError) as caught:
            request_of(fields)
        assert caught.value.status == status

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"1H", 3600.0),
            (b"2M", 120.0),
            (b"15S", 15.0),
            (b"250m", 0.25),
            (b"10u", 1e-5),
            (b"99999999n", 0.099999999),
            (b"0S", 0.0),
        ],
    )
    def test_timeout(self, value: bytes, seconds: float) -> None:
        request = request_of([*HEAD, GRPC, (b"grpc-timeout", value)])
        assert request.timeout == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "value", [b"", b"1", b"S", b"-1S", b"1.5S", b"1s", b"1 S", b"123456789S", b"1S\n", b"\xb2S", b"1SS"]
    )
    def test_timeout_that_is_none(self, value: bytes) -> None:
        with pytest.raises(CallError, match="grpc-timeout") as caught:
            request_of([*HEAD, GRPC, (b"grpc-timeout", value)])
        assert caught.value.status is Status.INTERNAL

    def test_compression(self) -> None:
        assert request_of([*HEAD, GRPC, (b"grpc-encoding", b"identity")])
        with pytest.raises(CallError, match="compressed") as caught:
            request_of([*HEAD, GRPC, (b"grpc-encoding", b"gzip")])
        assert caught.value.status is Status.UNIMPLEMENTED

    def test_a_path_of_other_bytes(self) -> None:
        request = request_of([*HEAD[:2], (b":path", b"/caf\xc3\xa9"), GRPC])
        assert request.path == "/caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


class TestContentLength:
    @pytest.mark.parametrize(
        ("values", "length"), [([], None), ([b"0"], 0), ([b"12"], 12), ([b"12", b"12"], 12), ([b"007"], 7)]
    )
    def test_one(self, values: list[bytes], length: int | None) -> None:
        fields = [(b"content-length", value) for value in values]
        assert content_length_of(fields) == length
        assert request_of([*HEAD, GRPC, *fields]).content_length == length

    @pytest.mark.parametrize(
        "values",
        [[b""], [b"-1"], [b"+1"], [b"1", b"2"], [b"1,1"], [b"0x1"], [b"1_0"], [b"9" * 19], [b"\xb2"]],
    )
    def test_none(self, values: list[bytes]) -> None:
        with pytest.raises(StreamError, match="content-length"):
            content_length_of([(b"content-length", value) for value in values])


@pytest.mark.parametrize("status", [b"100", b"200", b"404", b"999"])
def test_http_status(status: bytes) -> None:
    assert http_status_of([(b":status", status)]) == int(status)


@pytest.mark.parametrize(
    "status", [b"", b"20", b"2000", b"099", b"+20", b"2 0", b"ok!", b"200\n", b"\xb2\xb2\xb2"]
)
def test_http_status_that_is_none(status: bytes) -> None:
    with pytest.raises(StreamError, match=":status"):
        http_status_of([(b":status", status)])


class TestOutcome:
    @pytest.mark.parametrize("status", Status)
    def test_status(self, status: Status) -> None:
        fields = [(b"grpc-status", str(int(status)).encode()), (b"grpc-message", b"why")]
        assert outcome_of(fields) == Outcome(status, "why")
        assert str(outcome_of(fields)) == f"{status.name}: why"
        assert str(outcome_of(fields[:1])) == status.name

    @pytest.mark.parametrize("number", [b"17", b"-1", b"", b"ok", b"\xff", b"9" * 5000])
    def test_status_that_is_none(self, number: bytes) -> None:
        outcome = outcome_of([(b"grpc-status", number)])
        assert outcome.status is Status.UNKNOWN
        assert outcome.detail.startswith("grpc-status '")
        assert len(outcome.detail) < 250

    @pytest.mark.parametrize(
        ("http", "status"),
        [
            (200, Status.UNKNOWN),
            (400, Status.INTERNAL),
            (401, Status.UNAUTHENTICATED),
            (403, Status.PERMISSION_DENIED),
            (404, Status.UNIMPLEMENTED),
            (429, Status.UNAVAILABLE),
            (502, Status.UNAVAILABLE),
            (503, Status.UNAVAILABLE),
            (504, Status.UNAVAILABLE),
            (500, Status.UNKNOWN),
            (302, Status.UNKNOWN),
        ],
    )
    def test_without_a_status(self, http: int, status: Status) -> None:
        outcome = outcome_of([(b":status", str(http).encode())])
        assert outcome.status is status
        wanted = "the response ended without a status" if http == 200 else f"HTTP status {http}"
        assert outcome.detail == wanted
        assert outcome_of([]) == Outcome(Status.UNKNOWN, "the response ended without a status")

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            (b"plain", "plain"),
            (b"no%20way%21", "no way!"),
            (b"caf%C3%A9", "café"),
            (b"one%0Atwo%1B[31m", "one two [31m"),
            (b"100%", "100%"),
            (b"%zz", "%zz"),
            (b"%FF", "\N{REPLACEMENT CHARACTER}"),
            (b"x" * 5000, "x" * 200),
            (b"%20x" * 5000, " x" * 100),
        ],
    )
    def test_detail_is_fit_for_a_log(self, sent: bytes, shown: str) -> None:
        outcome = outcome_of([(b"grpc-status", b"1"), (b"grpc-message", sent)])
        assert outcome.detail == shown
        assert outcome.detail.isprintable()
