"""Files, among them hostile ones: values, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.config.sources import LARGEST_FILE, Kind, kind_of_file, parse_dotenv, read_mapping
from tunneler.errors import ConfigError


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_mapping(path)
    assert caught.value.source == str(path)
    assert "\n" not in str(caught.value)
    return caught.value.expected


def test_kinds_by_name() -> None:
    names = {
        "a.yaml": Kind.YAML,
        "a.yml": Kind.YAML,
        "a.json": Kind.JSON,
        "a.env": Kind.DOTENV,
        ".env": Kind.DOTENV,
    }
    assert {name: kind_of_file(Path(name)) for name in names} == names
    for name in ("a.conf", "a", "yaml", "a.yaml.bak"):
        with pytest.raises(ConfigError, match=r"expected a name that ends in \.yaml"):
            kind_of_file(Path(name))


class TestYaml:
    def test_values_are_text_as_written(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            "a.yaml",
            "client_id: 0123\nuser: no\nlisten_addr: :8081\nempty:\nnull_too: ~\nquoted: ''\n"
            "list: [1, two]\nsection: {port: 9999}\n",
        )
        assert read_mapping(path) == {
            "client_id": "0123",
            "user": "no",
            "listen_addr": ":8081",
            "empty": None,
            "null_too": None,
            "quoted": "",
            "list": ["1", "two"],
            "section": {"port": "9999"},
        }

    @pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n", "\ufeff"])
    def test_nothing_is_an_empty_mapping(self, tmp_path: Path, content: str) -> None:
        assert read_mapping(written(tmp_path, "a.yaml", content)) == {}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' is given twice"),
            ("s: {a: 1, a: 2}\n", "the key 'a' is given twice"),
            ("a: &x 1\nb: 2\n", "anchors and aliases are not accepted"),
            ("a: *x\n", "anchors and aliases are not accepted"),
            ("a: !!python/object/apply:os.system [id]\n", "tags are not accepted"),
            ("a: !!binary aGk=\n", "tags are not accepted"),
            ("[a]: 1\n", "expected a key"),
            ("{a: 1}: 1\n", "expected a key"),
            ("a: [1\n", "expected YAML, but line 2, column 1"),
            ("a: 1\n\tb: 2\n", "expected YAML, but line 2"),
            ("a: 1\n---\nb: 2\n", "expected YAML, but line 2"),
            ("- a\n- b\n", "expected keys and values, found a list"),
            ("only text\n", "expected keys and values, found a single value"),
            ("a: \x07\n", "found a control character at offset 3"),
            ("[" * 50_000, "found values nested too deeply"),
            ("{a: " * 50_000, "found values nested too deeply"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: str, expected: str) -> None:
        assert expected in refusal(written(tmp_path, "a.yaml", content))

    def test_an_alias_bomb_costs_nothing(self, tmp_path: Path) -> None:
        bomb = "a0: &a0 [x, x]\n" + "".join(
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
        )
        assert "anchors and aliases are not accepted" in refusal(written(tmp_path, "a.yaml", bomb))


class TestJson:
    def test_values_keep_their_types(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.json", '\ufeff{"a": [1, "x", null, true], "s": {"b": 0.5}}')
        assert read_mapping(path) == {"a": [1, "x", None, True], "s": {"b": 0.5}}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
            ('{"s": {"a": 1, "a": 2}}', "the key 'a' is given twice"),
            ("", "line 1, column 1"),
            ('{"a": 1,}', "expected JSON, but line 1"),
            ('{"a": NaN}', "found NaN"),
            ('{"a": -Infinity}', "found -Infinity"),
            ("[1]", "expected keys and values, found a list"),
            ("5", "expected keys and values, found a single value"),
            ("null", "expected keys and values, found a single value"),
            ("[" * 200_000, "found values nested too deeply"),
            ('{"a": ' + "9" * 5000 + "}", "a number with too many digits"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: str, expected: str) -> None:
        assert expected in refusal(written(tmp_path, "a.json", content))


class TestDotenv:
    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("  A=b  ", "b"),
            ("A=", ""),
            ("A= # nothing", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A='b # c' # d", "b # c"),
            ('A="b # c"', "b # c"),
            (r"A='\n'", r"\n"),
            (r'A="x\n\"y\" \\ $HOME"', 'x\n"y" \\ $HOME'),
            ("A=$HOME", "$HOME"),
            ("A=b=c", "b=c"),
            ("A=it's", "it's"),
            ("A=b\r", "b"),
        ],
    )
    def test_values(self, tmp_path: Path, line: str, value: str) -> None:
        path = written(tmp_path, "a.env", f"# comment\n\n{line}\nB=2")
        assert read_mapping(path) == {"A": value, "B": "2"}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("A", "line 1: expected KEY=VALUE"),
            ("\nA: b", "line 2: expected KEY=VALUE"),
            ("1A=b", "line 1: expected KEY=VALUE"),
            ("A =b", "line 1: expected KEY=VALUE"),
            ("A='b", "line 1: expected a closing quote"),
            ('A="b\\"', "line 1: expected a closing quote"),
            ("A='b'c", "line 1: expected a closing quote at the end of the value"),
            ("A=1\nB=2\nA=3", "line 3: A is given twice"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: str, expected: str) -> None:
        assert expected in refusal(written(tmp_path, "a.env", content))

    @pytest.mark.parametrize("line", ["A=x{}y", "A={}#", 'A="{}', "export{}", "A='x'{}y"])
    def test_a_long_line_is_read_in_linear_time(self, line: str) -> None:
        started = time.process_time()
        with contextlib.suppress(Exception):
            parse_dotenv(line.format(" " * (LARGEST_FILE - 20)))
        assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.env"])
class TestWhateverTheFormat:
    def test_no_such_file(self, tmp_path: Path, name: str) -> None:
        assert refusal(tmp_path / name) == "cannot be read: No such file or directory"

    def test_a_directory(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()
        assert refusal(tmp_path / name) == "cannot be read: Is a directory"

    def test_a_fifo_without_a_writer_does_not_block(self, tmp_path: Path, name: str) -> None:
        os.mkfifo(tmp_path / name)
        assert refusal(tmp_path / name) == "expected a regular file"

    def test_a_device(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).symlink_to("/dev/zero")
        assert refusal(tmp_path / name) == "expected a regular file"

    def test_a_file_too_large(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path, name, b"#" * (LARGEST_FILE + 1))
        assert (
            refusal(path) == f"expected a configuration of at most {LARGEST_FILE} bytes, found a larger file"
        )

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b"a: \xe9\n", os.urandom(64) + b"\xff"])
    def test_not_utf_8(self, tmp_path: Path, name: str, content: bytes) -> None:
        assert "expected text in UTF-8, found another byte at offset" in refusal(
            written(tmp_path, name, content)
        )

    def test_zero_bytes(self, tmp_path: Path, name: str) -> None:
        assert "expected" in refusal(written(tmp_path, name, b"\0" * 100))

    @given(
        content=st.binary(max_size=200)
        | st.text(max_size=200).map(str.encode)
        | st.text("{}[]:,&*!-'\"#\n a=").map(str.encode)
    )
    def test_any_content_is_a_mapping_or_one_error(
        self, tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
    ) -> None:
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        try:
            content_read = read_mapping(path)
        except ConfigError as error:
            content_read = {"refused": error}
        assert isinstance(content_read, dict)


def test_unreadable_by_this_user(tmp_path: Path) -> None:
    # As root, permissions refuse nothing; a name that is too long refuses everybody.
    assert refusal(tmp_path / ("x" * 300 + ".yaml")).startswith("cannot be read: ")
    assert refusal(Path("a\0b.yaml")).startswith("expected a file name")
