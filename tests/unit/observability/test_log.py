from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunneler.errors import ConfigError
from tunneler.observability import log
from tunneler.observability.log import EventLog, LineHandler, configure
from tunneler.observability.rendering import json_line

EVENTS = EventLog("test")
PIPE_BYTES = 65536


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    if log._installed is not None:
        root.removeHandler(log._installed)
        log._installed.close()
        log._installed = None
    root.setLevel(level)
    logging.getLogger("tunneler").setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tunneler.log"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, **options)


def test_a_line_is_there_when_the_call_returns(file: Path) -> None:
    configure("client", "info", "json", str(file))
    before = time.time()
    EVENTS.info("connection_opened", connection=b"\x01\x02", target="192.168.1.5:80")
    (line,) = lines(file)
    assert list(line) == ["time", "level", "role", "event", "connection", "target"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "role": "client",
        "event": "connection_opened",
        "connection": "0102",
        "target": "192.168.1.5:80",
    }
    EVENTS.error("link_lost", error=ConnectionResetError(104, "reset"))
    assert lines(file)[1]["error"] == "[Errno 104] reset"
    assert time.time() - before < 30


def test_text(file: Path) -> None:
    configure("proxy", "info", "text", str(file))
    EVENTS.warning("link_lost", peer="server/a", error="timed out\nforged line")
    (line,) = file.read_text().splitlines()
    assert re.fullmatch(r'\S{27} warning proxy link_lost peer=server/a error="timed out\\nforged line"', line)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels(file: Path, level: str, shown: list[str]) -> None:
    configure("server", level, "json", str(file))
    for name in ("debug", "info", "warning", "error"):
        getattr(EVENTS, name)("happened")
    assert [line["level"] for line in lines(file)] == shown
    assert EVENTS.enabled_for_debug is (level == "debug")


def test_a_disabled_level_makes_no_record(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure("server", "error", "json", str(file))
    monkeypatch.setattr(log, "EventRecord", None)
    EVENTS.debug("frame_received", offset=1)
    EVENTS.info("link_opened")
    EVENTS.warning("link_lost")
    assert lines(file) == []
    with pytest.raises(TypeError):
        EVENTS.error("failed")


def test_any_field_name_may_be_used(file: Path) -> None:
    configure("server", "info", "json", str(file))
    EVENTS.info("link_opened", event="x", self="y", role="client", name="z", level=1)
    line = lines(file)[0]
    assert (line["event"], line["role"], line["level"]) == ("link_opened", "server", "info")
    assert (line["event_"], line["self"], line["role_"], line["name"], line["level_"]) == (
        "x",
        "y",
        "client",
        "z",
        1,
    )


def test_a_record_has_what_other_handlers_look_for() -> None:
    """Whatever the standard library puts into a record of this Python, there is in ours."""
    before = time.time()
    record = log.EventRecord("tunneler.test", logging.WARNING, "link_lost", {"peer": "server/a"})
    usual = logging.LogRecord("tunneler.test", logging.WARNING, "", 0, "link_lost", None, None)
    assert vars(usual).keys() <= vars(record).keys()
    assert (record.name, record.levelname, record.getMessage()) == ("tunneler.test", "WARNING", "link_lost")
    assert before <= record.created <= time.time()
    assert abs(record.relativeCreated - usual.relativeCreated) < 60_000
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(threadName)s %(filename)s %(message)s")
    assert form.format(record).endswith(" WARNING tunneler.test None  link_lost")


def test_library_messages_go_the_same_way(file: Path) -> None:
    configure("server", "info", "json", str(file))
    logging.getLogger("asyncio").warning("took %s\nseconds", 5)
    logging.getLogger("grpc").debug("not shown")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("grpc").exception("failed")
    took, failed = lines(file)
    del took["time"]
    assert took == {
        "level": "warning",
        "role": "server",
        "event": "library_message",
        "logger": "asyncio",
        "message": "took 5\nseconds",
    }
    assert failed["level"] == "error"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("RuntimeError: broken")


def test_libraries_do_not_talk_about_their_insides(file: Path) -> None:
    configure("server", "debug", "json", str(file))
    logging.getLogger("hpack.hpack").debug("Adding %s to the header table", b"authorization: secret")
    EVENTS.debug("ours")
    logging.getLogger("hpack.hpack").info("theirs")
    configure("server", "warning", "json", str(file))
    EVENTS.info("too little")
    logging.getLogger("hpack.hpack").info("too little")
    assert [line.get("message", line["event"]) for line in lines(file)] == ["ours", "theirs"]


def test_a_library_that_cannot_format_its_message_harms_nobody(file: Path) -> None:
    handler = LineHandler("server", json_line, os.open(file, os.O_WRONLY | os.O_CREAT))
    handler.handle(logging.LogRecord("grpc", logging.INFO, "", 0, "%d", ("not a number",), None))
    handler.close()
    assert lines(file)[0]["message"] == "%d"


def test_configuring_again_reopens_the_file_and_leaves_no_descriptor(file: Path) -> None:
    configure("client", "info", "json", str(file))
    EVENTS.info("first")
    descriptors = len(os.listdir("/proc/self/fd"))
    file.rename(file.with_suffix(".1"))
    for _ in range(5):
        configure("client", "info", "json", str(file))
    EVENTS.info("second")
    configure("client", "info", "json", str(file))
    EVENTS.info("third")
    assert [line["event"] for line in lines(file.with_suffix(".1"))] == ["first"]
    assert [line["event"] for line in lines(file)] == ["second", "third"]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert file.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    ("level", "form", "output", "message"),
    [
        ("loud", "json", "stdout", "log.level: expected debug, info, warning, error, not 'loud'"),
        ("info", "xml", "stdout", "log.format: expected auto, json, text or journal, not 'xml'"),
        ("info", "json", "/nowhere/x.log", "'/nowhere/x.log': No such file or directory"),
        ("info", "json", "/", "'/': Is a directory"),
        ("info", "json", "a\0b", "embedded null"),
        ("info", "json", "", "'': No such file or directory"),
    ],
)
def test_a_wrong_configuration_is_an_error_and_the_log_goes_on(
    file: Path, level: str, form: Any, output: str, message: str
) -> None:
    configure("client", "info", "json", str(file))
    with pytest.raises(ConfigError) as caught:
        configure("server", level, form, output)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    EVENTS.info("still_here")
    assert [(line["event"], line["role"]) for line in lines(file)] == [("still_here", "client")]


def test_a_full_disk_is_survived() -> None:
    configure("client", "info", "json", "/dev/full")
    for _ in range(3):
        EVENTS.info("lost")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that holds 64 KiB, and whose writer does not wait."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reader, writer
    os.close(reader)


def record(event: str, **fields: object) -> log.EventRecord:
    return log.EventRecord("tunneler.test", logging.INFO, event, fields)


def drain(reader: int) -> list[str]:
    content = b""
    while True:
        try:
            content += os.read(reader, 1 << 20)
        except BlockingIOError:
            return content.decode("ascii").splitlines()


def test_lost_lines_are_counted_and_owned_up_to(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = LineHandler("client", json_line, writer)
    written = 0
    while not handler._lost:
        handler.handle(record("kept"))
        written += 1
    handler.handle(record("lost"))
    assert [json.loads(line)["event"] for line in drain(reader)] == ["kept"] * (written - 1)
    handler.handle(record("after"))
    handler.handle(record("later"))
    notice, *rest = [json.loads(line) for line in drain(reader)]
    assert (notice["event"], notice["level"], notice["count"]) == ("log_lines_lost", "warning", 2)
    assert [line["event"] for line in rest] == ["after", "later"]
    handler.close()


def test_a_torn_line_does_not_swallow_the_next(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = LineHandler("client", json_line, writer)
    os.write(writer, b"x" * (PIPE_BYTES - 4096))  # leaves room for half of the next line
    handler.handle(record("torn", long="y" * 8000))
    (torn,) = drain(reader)
    assert torn.endswith("yyy")
    handler.handle(record("after"))
    end_of_torn, *whole = drain(reader)
    assert end_of_torn == ""
    assert [json.loads(line)["event"] for line in whole] == ["log_lines_lost", "after"]
    handler.close()


def test_a_closed_pipe_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = LineHandler("client", json_line, writer)
    handler.handle(record("nobody_reads"))
    assert handler._lost == 1
    handler.close()


def test_a_record_that_comes_after_closing_writes_nowhere(file: Path) -> None:
    handler = LineHandler("client", json_line, os.open(file, os.O_WRONLY | os.O_CREAT))
    handler.close()
    handler.close()
    with file.open("wb"):  # takes the number that the handler had
        handler.handle(record("late"))
    assert file.read_bytes() == b""


def test_lines_of_threads_stay_whole(file: Path) -> None:
    configure("client", "info", "json", str(file))

    def work(number: int) -> None:
        for count in range(200):
            EVENTS.info("worked", number=number, count=count, filling="z" * 500)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted((line["number"], line["count"]) for line in lines(file)) == [
        (number, count) for number in range(8) for count in range(200)
    ]


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_standard_outputs_and_what_was_printed_before(output: str) -> None:
    done = python(
        "import sys, warnings\n"
        "from tunneler.observability.log import EventLog, configure\n"
        f"print('printed', file=sys.{output}, end='\\n')\n"
        f"configure('client', 'info', 'json', '{output}')\n"
        "EventLog('x').info('started')\n"
        "warnings.warn('old', UserWarning)\n"
        "assert 'systemd' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr
    printed, started, warned = getattr(done, output).splitlines()
    assert printed == "printed"
    assert json.loads(started)["event"] == "started"
    assert json.loads(warned)["logger"] == "py.warnings"
    assert not (done.stdout and done.stderr)


def test_a_role_outlives_the_reader_of_its_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = (
        "from tunneler.observability.log import EventLog, configure\n"
        "configure('client', 'info', 'json', 'stdout')\n"
        "EventLog('x').info('started')\n"
        "configure('client', 'info', 'json', 'stderr')\n"
        "EventLog('x').info('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, stdout=writer, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writer)
    assert (done.returncode, json.loads(done.stderr)["event"]) == (0, "alive")
