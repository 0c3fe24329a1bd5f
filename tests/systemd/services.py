"""What the tests of the services see: units by ``systemctl show``, events by the journal, traffic by curl.

Everything goes through commands on the hosts of a bed, so that any bed will do.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from testbed.processes import wait_until
from testbed.suite import TARGET
from tests.lab.bed import Bed, BedError
from tests.lab.rollout import UNITS, Rollout, Settings, fetch, run
from tunneler.addresses import Role

Entry = dict[str, str]
"""A journal entry: systemd.journal-fields(7), and ours, ``TUNNELER_…``."""

DEADLINE = 15.0
"""Seconds for whatever takes a fraction of them on a quiet machine."""
DOWNLOAD = 16 * 1024 * 1024
ROLES = (Role.SERVER, Role.PROXY, Role.CLIENT)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Unit:
    """A unit on a host."""

    bed: Bed
    host: str
    name: str

    def show(self, *names: str) -> dict[str, str]:
        """Properties, as ``systemctl show`` has them; all if none is named."""
        wanted = f"--property={','.join(names)}" if names else ""
        text = self.run(f"systemctl show {wanted} {self.name}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def get(self, name: str) -> str:
        return self.show(name)[name]

    @property
    def state(self) -> str:
        """Its ActiveState."""
        return self.get("ActiveState")

    @property
    def pid(self) -> int:
        """Of its main process; 0 if it has none."""
        return int(self.get("MainPID"))

    @property
    def status(self) -> str:
        """What it says of itself (STATUS=)."""
        return self.get("StatusText")

    def run(self, script: str) -> str:
        """Run a script on its host; BedError unless it succeeds."""
        return run(self.bed, self.host, script)

    def systemctl(self, verb: str) -> None:
        """Start, stop, restart and so on; waits as systemctl does."""
        self.run(f"systemctl {verb} {self.name}")

    def kill(self, signal: str = "KILL") -> int:
        """Send a signal to its main process; the pid."""
        pid = self.pid
        assert pid, f"{self.name} has no process"
        self.run(f"kill -{signal} {pid}")
        return pid

    def drop_in(self, text: str, name: str = "test") -> None:
        """Add to the unit; the next start has it."""
        self.bed.put(self.host, f"/etc/systemd/system/{self.name}.d/{name}.conf", text)
        self.run("systemctl daemon-reload")

    def wait(self, state: str, deadline: float = DEADLINE) -> None:
        """Wait for an ActiveState.

        Raises:
            TimeoutError: not in time; says what it said last.
        """
        self.wait_for(lambda: self.state == state, f"{self.name} is {state}", deadline)

    def wait_status(self, words: str, deadline: float = DEADLINE) -> None:
        """Wait until its STATUS= has these words."""
        self.wait_for(lambda: words in self.status, f"{self.name} says {words!r}", deadline)

    def wait_restarted(self, pid: int, deadline: float = DEADLINE) -> None:
        """Wait until it is active with another main process than ``pid``."""
        self.wait_for(
            lambda: self.pid not in (0, pid) and self.state == "active", f"{self.name} runs again", deadline
        )

    def wait_for(self, condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
        """Wait for anything about it; a TimeoutError shows how it is."""
        try:
            wait_until(condition, deadline * self.bed.time_scale, what)
        except TimeoutError as error:
            look = self.bed.host(self.host).run(f"systemctl status --no-pager --full --lines=30 {self.name}")
            raise TimeoutError(f"{error}\n{look.stdout}") from None


@dataclass(frozen=True)
class Journal:
    """The journal of a host, from the moment on at which this was made."""

    bed: Bed
    host: str
    cursor: str

    @classmethod
    def now(cls, bed: Bed, host: str) -> Journal:
        text = run(bed, host, "journalctl --quiet --lines=0 --show-cursor")
        return cls(bed, host, text.rpartition("-- cursor: ")[2].strip())

    def entries(self, **fields: object) -> list[Entry]:
        """Entries with these values of these fields."""
        # Not by matches of journalctl: with --after-cursor, systemd 252 leaves out the first that matches.
        options = f"--quiet --all --output=json --after-cursor='{self.cursor}'"
        entries = map(json.loads, run(self.bed, self.host, f"journalctl {options}").splitlines())
        wanted = {name: str(value) for name, value in fields.items()}.items()
        return [entry for entry in entries if wanted <= entry.items()]

    def events(self, event: str, **fields: object) -> list[Entry]:
        """Events of ours by name and fields: ``connection="…"`` is TUNNELER_CONNECTION."""
        ours = {f"TUNNELER_{key.upper()}": value for key, value in fields.items()}
        return self.entries(TUNNELER_EVENT=event, **ours)

    def wait_for(self, event: str, deadline: float = DEADLINE, **fields: object) -> Entry:
        """The first such event, waited for if need be."""
        found: list[Entry] = []

        def arrived() -> bool:
            found.extend(self.events(event, **fields))
            return bool(found)

        try:
            wait_until(arrived, deadline * self.bed.time_scale, f"{event} in the journal of {self.host}")
        except TimeoutError as error:
            lines = "\n".join(entry["MESSAGE"] for entry in self.entries()[-20:])
            raise TimeoutError(f"{error}\n{lines}") from None
        return found[0]


@dataclass(frozen=True)
class Transfer:
    """A download that an unmodified curl makes on the client, in the background."""

    unit: Unit

    @property
    def file(self) -> str:
        """Where it goes."""
        return f"/tmp/{self.unit.name}"

    @property
    def arrived(self) -> int:
        """Bytes so far."""
        return int(self.unit.run(f"stat -c %s {self.file} 2>/dev/null || echo 0"))

    @property
    def ended(self) -> bool:
        return self.unit.get("SubState") in ("exited", "failed")

    def digest(self, deadline: float = 60.0) -> str:
        """Wait for its end; SHA-256 of what arrived. AssertionError if curl failed."""
        self.unit.wait_for(lambda: self.ended, "the download ends", deadline)
        said = self.unit.run(f"journalctl --quiet --output=cat --unit={self.unit.name}")
        assert self.unit.get("Result") == "success", said
        digest = self.unit.run(f"sha256sum {self.file}").split()[0]
        self.unit.run(f"rm {self.file}; systemctl stop {self.unit.name}")
        return digest


@dataclass
class Site:
    """The three roles as services, on a bed."""

    bed: Bed
    rollout: Rollout
    before: dict[Role, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = {role: self.fingerprint(role) for role in ROLES}

    @property
    def server(self) -> Unit:
        return Unit(self.bed, "server", "tunneler-server.service")

    @property
    def proxy(self) -> Unit:
        return Unit(self.bed, "proxy", "tunneler-proxy.service")

    @property
    def client(self) -> Unit:
        return Unit(self.bed, "client", "tunneler-client.service")

    @property
    def capture(self) -> Unit:
        return Unit(self.bed, "client", "tunneler-capture.service")

    @property
    def client_socket(self) -> Unit:
        return Unit(self.bed, "client", "tunneler-client.socket")

    @property
    def server_socket(self) -> Unit:
        return Unit(self.bed, "server", "tunneler-server.socket")

    def unit(self, role: Role) -> Unit:
        """The service of a role."""
        return {Role.SERVER: self.server, Role.PROXY: self.proxy, Role.CLIENT: self.client}[role]

    def run(self, host: str, script: str) -> str:
        """Run a script on a host; BedError unless it succeeds."""
        return run(self.bed, host, script)

    def journal(self, host: str) -> Journal:
        """What arrives in a host's journal from now on."""
        return Journal.now(self.bed, host)

    def fetch(self, path: str = "", *, address: str = TARGET, timeout: float = 5.0) -> str:
        """What curl, run by an ordinary user of the client, gets; empty if nothing."""
        return fetch(self.bed, f"http://{address}/{path}", timeout)

    def connect(self, address: str = TARGET, port: int = 80, timeout: float = 5.0) -> tuple[int, float]:
        """curl's exit status and the seconds until then; 7 is refused, 28 took longer than ``timeout``."""
        limit = f"--max-time {timeout * self.bed.time_scale:g}"
        url = f"http://{address}:{port}/"
        curl = f"runuser -u nobody -- curl -sS {limit} -o /dev/null -w '%{{time_total}}' {url}"
        done = self.bed.host("client").run(curl)
        return int(done.rc), float(done.stdout or "nan")

    def wait(self, condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
        """Wait until something is so; TimeoutError: not in time."""
        wait_until(condition, deadline * self.bed.time_scale, what)

    def wait_uncaptured(self) -> None:
        """Wait until a connection to the target is not captured, and so arrives nowhere.

        Perhaps not at once: to the kernel, a connection from the port of one that was reset in the last ten
        seconds (net.netfilter.nf_conntrack_tcp_timeout_close) is that one, and goes where it went.
        """
        self.wait(lambda: self.fetch(timeout=1) == "", "connections are not captured any more")

    def download(self, name: str = "big", *, rate: str = "2m") -> Transfer:
        """Start a download of ``name`` at a rate (:func:`serve_page`): of eight seconds, by default.

        They leave a busy machine the time to do meanwhile what the test is about.
        """
        unit = Unit(self.bed, "client", f"download-{next(_numbers)}.service")
        transfer = Transfer(unit)
        options = f"--quiet --unit={unit.name} --uid=nobody --property=RemainAfterExit=yes"
        curl = f"curl -sS -o {transfer.file} http://{TARGET}/{name}?rate={rate}"
        self.run("client", f"systemd-run {options} {curl}")
        unit.wait_for(lambda: transfer.arrived or transfer.ended, "the download begins")
        return transfer

    def digest(self, name: str = "big") -> str:
        """SHA-256 of a file that the target serves."""
        return self.run("target", f"sha256sum /var/www/html/{name}").split()[0]

    def configure(self, role: Role, more: Settings) -> None:
        """Change a role's configuration, until the test's end; the next start or reload has it."""
        self.rollout.configure(role, more)

    def fingerprint(self, role: Role) -> str:
        """What an administrator has set up for a role, and what has failed."""
        return self.run(
            role,
            f"stat -c '%n %a %U %G' /etc/tunneler/{role}.yaml /etc/tunneler/tls/{role}/*"
            f"; cat /etc/tunneler/{role}.yaml /etc/tunneler/tls/{role}/* | sha256sum"
            "; find /etc/systemd/system /run/systemd/system | grep tunneler | sort"
            "; systemctl list-units --failed --no-legend --plain"
            "; systemctl is-active 'tunneler-server@*'; true",
        )

    def mend(self, deadline: float = 30.0) -> None:
        """Put everything back as the roll-out left it."""
        self.bed.reset()
        with ThreadPoolExecutor(len(ROLES)) as pool:
            list(pool.map(self._mend, ROLES))
        try:
            self.rollout.wait_for_path(3.0)
        except BedError:
            # They may be waiting long for their next attempt, after a test that broke their links many times.
            for role in (Role.PROXY, Role.CLIENT):
                self.run(role, f"systemctl --no-block restart tunneler-{role}.service")
            self.rollout.wait_for_path(deadline)

    def _mend(self, role: Role) -> None:
        units = " ".join(UNITS[role])
        if self.fingerprint(role) != self.before[role]:
            away = f"/etc/systemd/system/tunneler* /run/systemd/system/tunneler* /etc/tunneler/tls/{role}/*"
            self.run(role, f"systemctl stop 'tunneler*'; rm -rf {away}")
            self.run(
                role, f"systemctl daemon-reload; systemctl reset-failed; systemctl --quiet enable {units}"
            )
            self.rollout.install_keys(role)
            self.rollout.configure(role)
        self.run(role, f"systemctl --no-block start {units} tunneler.target")


def rules(site: Site) -> str:
    """What of ours is in the client's packet filter, in either kind of table."""
    nft = site.run("client", "nft list tables")
    legacy = site.run("client", "for t in iptables-legacy ip6tables-legacy; do $t -w -t nat -S; done")
    found = [line for line in nft.splitlines() if "tunneler" in line]
    found += [line for line in legacy.splitlines() if "TUNNELER" in line]
    return "\n".join(found)
