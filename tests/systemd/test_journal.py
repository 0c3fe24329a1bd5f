"""What the journals say: every field of an event as a field, and what each event means and asks for."""

from __future__ import annotations

import re

import pytest

from tests.lab.rollout import PAGE
from tests.systemd.services import Site

pytestmark = pytest.mark.timeout(120)

HOSTS = ("client", "server", "proxy")


def test_one_connection_is_followed_on_every_host(site: Site) -> None:
    """By ``journalctl TUNNELER_CONNECTION=…``."""
    journals = {host: site.journal(host) for host in HOSTS}
    assert site.fetch() == PAGE
    connection = journals["client"].wait_for("connection_closed")["TUNNELER_CONNECTION"]
    assert re.fullmatch(r"[0-9a-f]{32}", connection)
    for host in HOSTS:
        entry = journals[host].wait_for("connection_closed", connection=connection)
        assert entry["TUNNELER_ROLE"] == host
        assert entry["TUNNELER_ORIGINAL_TARGET"] == "100.64.1.5:80"
        assert int(entry["TUNNELER_BYTES_DOWN"]) > len(PAGE)
        said = site.run(host, f"journalctl --quiet --output=cat TUNNELER_CONNECTION={connection}")
        assert "connection_closed" in said


def test_other_connections_are_left_out(site: Site) -> None:
    journal = site.journal("server")
    site.fetch()
    site.fetch()
    site.wait(lambda: len(journal.events("connection_closed")) == 2, "both are closed")
    one, other = (entry["TUNNELER_CONNECTION"] for entry in journal.events("connection_closed"))
    assert one != other
    assert other not in site.run("server", f"journalctl --quiet --output=cat TUNNELER_CONNECTION={one}")


def test_an_event_is_a_whole_entry(changed: Site) -> None:
    """Native: not a line of text that journald had to make sense of."""
    journal = changed.journal("server")
    changed.proxy.systemctl("restart")
    entry = journal.wait_for("routes_announced")
    assert entry["_TRANSPORT"] == "journal"
    assert entry["_SYSTEMD_UNIT"] == "tunneler-server.service"
    assert entry["SYSLOG_IDENTIFIER"] == "tunneler-server"
    assert entry["TUNNELER_PEER"].startswith("proxy/proxy")
    assert re.fullmatch(r"[0-9a-f]{32}", entry["MESSAGE_ID"])
    same_kind = changed.run("server", f"journalctl --quiet --output=cat MESSAGE_ID={entry['MESSAGE_ID']}")
    assert {line.split()[0] for line in same_kind.splitlines()} == {"routes_announced"}


@pytest.mark.parametrize("host", HOSTS)
def test_every_event_is_explained(site: Site, host: str) -> None:
    """``journalctl -x`` finds an explanation for whatever has been logged in this session."""
    site.fetch()
    units = "--unit=tunneler-server --unit=tunneler-proxy --unit=tunneler-client --unit=tunneler-capture"
    fields = f"journalctl --quiet --output=json --output-fields=MESSAGE_ID,TUNNELER_EVENT {units}"
    identified = re.findall(
        r'"MESSAGE_ID":"([0-9a-f]{32})"', site.run(host, f"{fields} | grep TUNNELER_EVENT")
    )
    assert identified
    known = site.run(host, f"journalctl --quiet --list-catalog {' '.join(sorted(set(identified)))}")
    assert set(re.findall(r"^([0-9a-f]{32}) tunneler: ", known, re.MULTILINE)) == set(identified)


def test_an_explanation_is_shown_with_the_event(site: Site) -> None:
    site.fetch()
    shown = site.run("client", "journalctl --quiet --catalog --no-pager --unit=tunneler-client --lines=200")
    assert "░░ Subject: " in shown
    assert "░░ Defined-By: tunneler" in shown
    assert "@TUNNELER_" not in shown
