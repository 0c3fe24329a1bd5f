"""Which source wins, and what an operator is told when one is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunneler.config.load import CombinedConfigError, Loaded, load
from tunneler.config.model import ClientConfig, ProxyConfig, ServerConfig
from tunneler.errors import ConfigError, ExitStatus

INSECURE = {"TUNNELER_TLS_INSECURE": "true", "TUNNELER_SERVER_ADDR": "127.0.0.1:8081"}
ENVIRONMENT = {
    "TUNNELER_SERVER_ADDR": "relay:8081",
    "TUNNELER_TLS_CERT_FILE": "cert.pem",
    "TUNNELER_TLS_KEY_FILE": "key.pem",
    "TUNNELER_TLS_CA_FILE": "ca.pem",
}


def client(
    *files: Path, environment: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> Loaded[ClientConfig]:
    return load(ClientConfig, files, ENVIRONMENT | (environment or {}), flags or {})


def faults(*files: Path, model: Any = ClientConfig, environment: dict[str, str] | None = None) -> list[str]:
    """The lines that an operator sees."""
    with pytest.raises(ConfigError) as caught:
        load(model, files, ENVIRONMENT | (environment or {}), {})
    assert caught.value.exit_status is ExitStatus.USAGE
    return str(caught.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(name: str, content: str | dict[str, Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


class TestPrecedence:
    PORTS = (
        ("a.yaml", "listen_port: 1001"),
        ("a.json", '{"listen_port": 1002}'),
        ("a.env", "TUNNELER_LISTEN_PORT=1003"),
    )

    @pytest.mark.parametrize("kinds", [1, 2, 3])
    def test_yaml_then_json_then_dotenv_in_whatever_order_they_are_given(self, file: Any, kinds: int) -> None:
        files = [file(name, content) for name, content in self.PORTS[:kinds]]
        for order in (files, files[::-1]):
            loaded = client(*order)
            assert loaded.config.listen_port == 1000 + kinds
            assert loaded.sources["listen_port"].startswith(str(files[-1]))

    def test_then_the_environment_then_flags(self, file: Any) -> None:
        files = [file(name, content) for name, content in self.PORTS]
        environment = {"TUNNELER_LISTEN_PORT": "1004"}
        assert client(*files, environment=environment).config.listen_port == 1004
        loaded = client(*files, environment=environment, flags={"listen_port": "1005"})
        assert loaded.config.listen_port == 1005
        assert loaded.sources["listen_port"] == "--listen-port"

    def test_a_later_file_of_a_kind_wins(self, file: Any) -> None:
        first, second = file("a.yaml", "listen_port: 1"), file("b.yml", "listen_port: 2")
        assert client(first, second).config.listen_port == 2
        assert client(second, first).config.listen_port == 1

    def test_sections_are_merged_and_lists_are_replaced(self, file: Any) -> None:
        first = file("a.yaml", "timeouts: {dial: 5s, drain: 7s}\nexclude: [10.1.0.0/16, 10.2.0.0/16]")
        second = file("b.json", {"timeouts": {"dial": 6}, "exclude": "10.3.0.0/16"})
        config = client(first, second).config
        assert (config.timeouts.dial, config.timeouts.drain) == (6, 7)
        assert [str(network) for network in config.exclude] == ["10.3.0.0/16"]

    def test_a_flag_that_was_not_given_overrides_nothing(self) -> None:
        config = client(
            environment={"TUNNELER_LISTEN_PORT": "5"}, flags={"listen_port": None, "exclude": ()}
        ).config
        assert config.listen_port == 5

    def test_null_and_an_empty_section_set_nothing(self, file: Any) -> None:
        first = file("a.yaml", "listen_port: 5\nlog: {level: debug}")
        second = file("b.json", {"listen_port": None, "log": None})
        config = client(first, second).config
        assert (config.listen_port, config.log.level) == (5, "debug")

    def test_transport_and_version_of_tls_from_every_kind_of_source(self, file: Any) -> None:
        sources: list[tuple[tuple[Path, ...], dict[str, str], dict[str, object]]] = [
            ((file("a.yaml", "transport: native\ntls: {min_version: 1.2}"),), {}, {}),
            ((file("a.json", {"transport": "native", "tls": {"min_version": 1.2}}),), {}, {}),
            ((file("a.env", "TUNNELER_TRANSPORT=native\nTUNNELER_TLS_MIN_VERSION=1.2"),), {}, {}),
            ((), {"TUNNELER_TRANSPORT": "native", "TUNNELER_TLS_MIN_VERSION": "1.2"}, {}),
            ((), {}, {"transport": "native", "tls.min_version": "1.2"}),
        ]
        for files, environment, flags in sources:
            config = client(*files, environment=environment, flags=flags).config
            assert (config.transport, config.tls.min_version) == ("native", "1.2")


class TestPaths:
    TLS = "tls: {cert_file: certs/c.pem, key_file: /etc/k.pem, ca_file: ../ca.pem}\nlog: {output: client.log}"

    def test_those_in_a_file_start_at_its_directory(self, file: Any, tmp_path: Path) -> None:
        path = file("site/a.yaml", self.TLS)
        config = load(ClientConfig, [path], {"TUNNELER_SERVER_ADDR": "relay:1"}, {}).config
        assert config.tls.cert_file == tmp_path / "site/certs/c.pem"
        assert config.tls.key_file == Path("/etc/k.pem")
        assert config.tls.ca_file == tmp_path / "site/../ca.pem"
        assert config.log.output == str(tmp_path / "site/client.log")

    def test_those_in_a_dotenv_file_do_too(self, file: Any, tmp_path: Path) -> None:
        path = file("site/a.env", "TUNNELER_TLS_CA_FILE=ca.pem")
        assert load(
            ClientConfig, [path], ENVIRONMENT | {"TUNNELER_TLS_CA_FILE": "x.pem"}, {}
        ).config.tls.ca_file == Path("x.pem")
        del (environment := dict(ENVIRONMENT))["TUNNELER_TLS_CA_FILE"]
        assert load(ClientConfig, [path], environment, {}).config.tls.ca_file == tmp_path / "site/ca.pem"

    def test_those_in_the_environment_and_in_flags_stay_as_they_are(self) -> None:
        config = client(flags={"tls.key_file": "keys/k.pem"}).config
        assert config.tls.cert_file == Path("cert.pem")
        assert config.tls.key_file == Path("keys/k.pem")

    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_streams_are_not_paths(self, file: Any, stream: str) -> None:
        assert client(file("a.yaml", f"log: {{output: {stream}}}")).config.log.output == stream


class TestFaults:
    def test_one_fault_is_one_line_with_file_key_and_what_was_expected(self, file: Any) -> None:
        path = file("a.yaml", "timeouts:\n  dial: soon\n")
        assert faults(path) == [
            f"{path}: timeouts.dial: expected a duration such as 500ms, 10s, 5m or 1h, not 'soon'"
        ]

    def test_several_faults_are_a_line_each(self, file: Any) -> None:
        yaml = file("a.yaml", "listen_port: 0\nlog: {level: loud}\nsever_addr: x")
        env = file("a.env", "TUNNELER_LIMITS_MAX_LINKS=none")
        with pytest.raises(CombinedConfigError) as caught:
            load(
                ClientConfig, [yaml, env], ENVIRONMENT | {"TUNNELER_TIMEOUTS_DIALS": "1"}, {"exclude": ("x",)}
            )
        assert str(caught.value).splitlines() == [
            f"{yaml}: sever_addr: unknown key; did you mean server_addr?",
            "TUNNELER_TIMEOUTS_DIALS: no such variable; did you mean TUNNELER_TIMEOUTS_DIAL?",
            f"{yaml}: log.level: expected 'debug', 'info', 'warning' or 'error', not 'loud'",
            f"{env}: TUNNELER_LIMITS_MAX_LINKS: limits.max_links: expected a whole number, not 'none'",
            f"{yaml}: listen_port: expected at least 1, not '0'",
            "--exclude: exclude.0: expected a network such as 192.168.1.0/24, not 'x'",
        ]
        assert len(caught.value.faults) == 6

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ("tls: {cert: x}", "tls.cert: unknown key; did you mean tls.cert_file?"),
            ("ca_file: x", "ca_file: unknown key; did you mean tls.ca_file?"),
            (
                "timeouts: {memory_budget: 5}",
                "timeouts.memory_budget: unknown key; did you mean limits.memory_budget?",
            ),
            ("qqqqqqqq: 1", "qqqqqqqq: unknown key"),
            ("managed_cidr: 10.0.0.0/8", "managed_cidr: unknown key"),
            ("timeouts: 5", "timeouts: expected a section with keys such as heartbeat"),
            ("timeouts: [5]", "timeouts: expected a section with keys such as heartbeat"),
            (
                "target_cidr: {a: 1}",
                "target_cidr.0: expected a network such as 192.168.1.0/24, not a section",
            ),
            (
                "target_cidr: 10.0.0.1/8",
                "target_cidr.0: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
            ),
            (
                "tls: {insecure: true}",
                "tls.insecure: plaintext is for loopback addresses only, and relay:8081 is",
            ),
            (
                "timeouts: {heartbeat: 20}",
                "timeouts.silence: expected more than timeouts.heartbeat, which is 20s",
            ),
            (
                "client_id: " + "x" * 1000,
                "client_id: expected up to 64 letters, digits, dots, dashes and underscores",
            ),
            ("transport: quic", "transport: expected 'native' or 'grpcio', not 'quic'"),
            ("tls: {min_version: 1.1}", "tls.min_version: expected '1.3' or '1.2', not '1.1'"),
            ('"\\x1b[31m\\n": 1', r"\x1b[31m\n: unknown key"),
            ('listen_port: "\\x1b[31m\\n"', "listen_port: expected a whole number, not "),
        ],
    )
    def test_lines(self, file: Any, content: str, line: str) -> None:
        path = file("a.yaml", content)
        (found,) = faults(path)
        assert found.startswith(f"{path}: {line}")
        assert found.isprintable()
        assert len(found) < len(str(path)) + 250

    def test_a_source_that_cannot_be_read_is_the_only_complaint(self, file: Any, tmp_path: Path) -> None:
        broken, missing = file("a.yaml", "a: ["), tmp_path / "b.json"
        unknown = file("c.conf", "")
        lines = faults(broken, missing, unknown, environment={"TUNNELER_LISTEN_PORT": "x"})
        assert [line.partition(": ")[0] for line in lines] == [str(broken), str(missing), str(unknown)]

    def test_what_is_required_says_how_to_set_it(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load(ClientConfig, [], {}, {})
        tls, server = str(caught.value).splitlines()
        assert tls.startswith(
            "configuration: tls.cert_file: expected cert_file, key_file and ca_file; not set: cert"
        )
        assert server == (
            "configuration: server_addr: required; "
            "set it in a file or as TUNNELER_SERVER_ADDR, or use --server"
        )

    def test_a_misspelt_key_is_not_missing_as_well(self, file: Any) -> None:
        path = file("a.yaml", "sever_addr: relay:1\ntls: {cert_file: c, key_file: k, ca_file: a}")
        with pytest.raises(ConfigError) as caught:
            load(ClientConfig, [path], {}, {})
        assert str(caught.value) == f"{path}: sever_addr: unknown key; did you mean server_addr?"

    def test_a_file_name_that_is_not_one_line(self, file: Any) -> None:
        (line,) = faults(file("a\nb.yaml", "x: 1"))
        assert r"a\nb.yaml: x: unknown key" in line


class TestEnvironment:
    def test_lists_and_routes(self) -> None:
        environment = INSECURE | {
            "TUNNELER_MANAGED_CIDR": "192.168.1.0/24,10.0.0.0/8",
            "TUNNELER_ROUTES": "100.65.0.0/24=192.168.7.0/24,100.65.1.0/24=192.168.8.0/24",
        }
        config = load(ProxyConfig, [], environment, {}).config
        assert [str(network) for network in config.managed_cidr] == ["192.168.1.0/24", "10.0.0.0/8"]
        assert [str(route) for route in config.routes] == [
            "100.65.0.0/24 -> 192.168.7.0/24",
            "100.65.1.0/24 -> 192.168.8.0/24",
        ]

    def test_variables_of_other_roles_and_of_others_are_ignored(self) -> None:
        environment = {
            "TUNNELER_LISTEN_ADDR": "nonsense",
            "TUNNELER_ROUTES": "[",
            "PATH": "/bin",
            "TUNNEL": "x",
        }
        assert client(environment=environment).config.listen_port == 9999

    def test_an_unknown_variable(self) -> None:
        assert faults(environment={"TUNNELER_QQQ": "1"}) == ["TUNNELER_QQQ: no such variable"]

    def test_names_without_prefix_in_a_dotenv_file_are_mentioned(self, file: Any) -> None:
        path = file("a.env", "SERVER_ADDR=relay:1\nTUNNELER_LISTEN_PORT=7")
        loaded = client(path)
        assert loaded.warnings == (f"{path}: not read, because the name lacks TUNNELER_: SERVER_ADDR",)
        assert loaded.config.listen_port == 7


class TestWarnings:
    def test_none_for_a_sound_configuration(self) -> None:
        assert client().warnings == ()

    def test_plaintext(self) -> None:
        (warning,) = load(ServerConfig, [], {}, {"tls.insecure": True, "listen_addr": "[::1]:1"}).warnings
        assert "plaintext" in warning

    @pytest.mark.parametrize(("key", "value"), [("OPEN", "10"), ("DIAL", "15")])
    def test_open_not_longer_than_dial(self, key: str, value: str) -> None:
        (warning,) = client(environment={f"TUNNELER_TIMEOUTS_{key}": value}).warnings
        assert "timeouts.open" in warning
        assert "timeouts.dial" in warning
