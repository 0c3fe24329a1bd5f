"""Header blocks, and what makes a field list valid: RFC 9113 sections 8.2 and 8.3."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from tunneler.http2.codes import ErrorCode, Http2Error, StreamError
from tunneler.http2.headers import Fields, HeaderCodec, check_request, check_response, check_trailers
from tunneler.http2.limits import MAX_HEADER_LIST, MAX_TABLE_CHANGES
from tunneler.http2.settings import DEFAULT_TABLE

HEAD: Fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/")]
RESPONSE: Fields = [(b":status", b"200")]

texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


class TestCodec:
    @given(st.lists(st.lists(st.tuples(texts.filter(bool), texts), max_size=8), max_size=6))
    def test_round_trips(self, lists: list[list[tuple[str, str]]]) -> None:
        writer, reader = HeaderCodec(), HeaderCodec()
        for fields in lists:
            expected = [(name.encode(), value.encode()) for name, value in fields]
            assert reader.decode(writer.encode(fields)) == expected

    @given(st.lists(st.one_of(st.integers(0, DEFAULT_TABLE), st.just(None)), max_size=12))
    def test_round_trips_while_the_table_changes(self, sizes: list[int | None]) -> None:
        writer, reader = HeaderCodec(), HeaderCodec()
        for number, size in enumerate(sizes):
            if size is not None:
                writer.set_table_size(size)
            fields = [("x-kept", "value"), (f"x-{number % 3}", "v" * 50)]
            expected = [(name.encode(), value.encode()) for name, value in fields]
            assert reader.decode(writer.encode(fields)) == expected
            table = writer._encoder.header_table
            assert size is None or table.maxsize == size

    def test_a_second_list_is_shorter(self) -> None:
        writer = HeaderCodec()
        fields = [("x-name", "value of this field")]
        assert len(writer.encode(fields)) > 10
        assert len(writer.encode(fields)) == 1

    def test_fields_are_plain_tuples(self) -> None:
        (field,) = HeaderCodec().decode(HeaderCodec().encode([("x", "y")]))
        assert type(field) is tuple

    @pytest.mark.parametrize(
        "block",
        [
            b"\x80",  # index 0
            b"\xff\x80\x01",  # beyond the table
            b"\xff\xff\xff\xff\xff\xff\xff\xff",  # an integer without an end
            b"\x00",  # cut short
            b"\x00\x05x",
            b"\x00\x01x\x85\xff\xff\xff\xff\xff",  # Huffman's end of string
            b"\x3f\xe2\x1f",  # a table larger than ours
            b"\x82\x20",  # a change of the table after a field
        ],
    )
    def test_a_block_that_cannot_be_read(self, block: bytes) -> None:
        with pytest.raises(Http2Error, match="a header block that cannot be read") as caught:
            HeaderCodec().decode(block)
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR

    def test_a_list_of_the_largest_size(self) -> None:
        fields = [("n" * 10, "v" * (MAX_HEADER_LIST - 42))]
        assert len(HeaderCodec().decode(Encoder().encode(fields))) == 1
        fields = [("n" * 10, "v" * (MAX_HEADER_LIST - 41))]
        with pytest.raises(Http2Error, match="a field list of more than 16384 bytes") as caught:
            HeaderCodec().decode(Encoder().encode(fields))
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize("change", [b"\x20", b"\x3e", b"\x3f\x00", b"\x3f\xe1\x1f"])
    def test_changes_of_the_table(self, change: bytes) -> None:
        """Each costs as much as a field does, and counts for nothing in a list's size."""
        field = b"\x00\x01x\x01y"
        block = change * MAX_TABLE_CHANGES + field
        assert HeaderCodec().decode(block) == [(b"x", b"y")]
        with pytest.raises(Http2Error, match="too many changes of the header table") as caught:
            HeaderCodec().decode(change + block)
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM

    def test_a_small_block_of_a_large_list(self) -> None:
        """A hundred times the same kept field: CVE-2016-6581."""
        codec = HeaderCodec()
        encoder = Encoder()
        codec.decode(encoder.encode([("x", "v" * 3000)]))
        block = encoder.encode([("x", "v" * 3000)] * 100)
        assert len(block) == 100
        with pytest.raises(Http2Error) as caught:
            codec.decode(block)
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "fields",
    [
        HEAD,
        [*HEAD, (b":authority", b"server")],
        [HEAD[2], HEAD[0], (b":authority", b""), HEAD[1]],
        [*HEAD, (b"te", b"trailers")],
        [*HEAD, (b"te", b"Trailers")],
        [*HEAD, (b"x-empty", b"")],
        [*HEAD, (b"x", b"inner  white\tspace"), (b"x", b"\xff\x80")],
        [*HEAD, (b"!#$%&'*+-.^_`|~09az", b"token")],
    ],
)
def test_requests(fields: Fields) -> None:
    check_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        HEAD[1:],
        [HEAD[0], HEAD[2]],
        HEAD[:2],
        [*HEAD[:2], (b":path", b"")],
        [*HEAD, HEAD[0]],
        [*HEAD, (b":path", b"/other")],
        [*HEAD, *RESPONSE],
        [*HEAD, (b":protocol", b"websocket")],
        [(b"x", b"y"), *HEAD],
        [*HEAD, (b"x", b"y"), (b":authority", b"late")],
    ],
)
def test_malformed_requests(fields: Fields) -> None:
    with pytest.raises(StreamError) as caught:
        check_request(fields)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_responses() -> None:
    check_response(RESPONSE)
    check_response([*RESPONSE, (b"content-type", b"application/grpc")])


@pytest.mark.parametrize(
    "fields", [[], [(b"x", b"y")], [*RESPONSE, *RESPONSE], [*RESPONSE, HEAD[0]], [(b"x", b"y"), *RESPONSE]]
)
def test_malformed_responses(fields: Fields) -> None:
    with pytest.raises(StreamError):
        check_response(fields)


def test_trailers() -> None:
    check_trailers([])
    check_trailers([(b"grpc-status", b"0"), (b"grpc-status", b"0")])


@pytest.mark.parametrize("field", [*HEAD, *RESPONSE, (b":authority", b"x")])
def test_trailers_have_no_pseudo_fields(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(StreamError, match="the pseudo-field :"):
        check_trailers([field])


@pytest.mark.parametrize(
    "field",
    [
        (b"", b"value"),
        (b":", b"value"),
        (b"Upper", b"value"),
        (b"with space", b"value"),
        (b"with:colon", b"value"),
        (b"x\x00", b"value"),
        (b"x\x7f", b"value"),
        (b"x\xe9", b"value"),
        (b"x\n", b"value"),
        (b"x", b"a\x00b"),
        (b"x", b"a\rb"),
        (b"x", b"a\nb"),
        (b"x", b"value\n"),
        (b"x", b" value"),
        (b"x", b"value "),
        (b"x", b"\tvalue"),
        (b"x", b"value\t"),
        (b"x", b" "),
        (b"connection", b"close"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
    ],
)
@pytest.mark.parametrize(
    ("check", "head"), [(check_request, HEAD), (check_response, RESPONSE), (check_trailers, [])]
)
def test_fields_that_none_may_have(
    check: Callable[[Fields], None], head: Fields, field: tuple[bytes, bytes]
) -> None:
    with pytest.raises(StreamError) as caught:
        check([*head, field])
    assert str(caught.value).isprintable()
