"""Capture with the legacy packet filter: chain TUNNELER in the nat tables.

::

    OUTPUT ─────────── tcp, not of the exempt user ──┐
    PREROUTING ─────── tcp (gateway only) ───────────┴─▶ TUNNELER:  excluded … RETURN
                                                                    captured … REDIRECT

The owner is matched where the jump is, as PREROUTING knows no owner. Jumps come first in their
chain, so that no other rule decides before ours; the rest of the chain stays as it was.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from tunneler.capture.libiptc import NatTable, load, table_exists, xtables_lock
from tunneler.capture.listeners import has_connections
from tunneler.capture.rules import IP_VERSIONS, CapturePlan, IPVersion
from tunneler.capture.users import uid_of
from tunneler.capture.xtables import REDIRECT, RETURN, Entry, Rule, encode
from tunneler.errors import CaptureError

CHAIN = "TUNNELER"
HOOKS = ("OUTPUT", "PREROUTING")

Wanted = dict[str, list[Rule]]
"""Chain -> our rules in it, in order. No key CHAIN: that chain shall not exist."""


class IptablesBackend:
    """The first backend; see :class:`tunneler.capture.rules.CaptureBackend`.

    Raises:
        CaptureError: on construction, when python-iptables cannot be loaded.
    """

    name = "iptables"

    def __init__(self) -> None:
        load()

    def install(self, plan: CapturePlan) -> None:
        wanted = {version: wanted_rules(plan, version) for version in IP_VERSIONS}
        with xtables_lock(), ExitStack() as stack:
            # Both are opened before one is changed: a missing table is the likeliest fault.
            tables = [stack.enter_context(NatTable(version)) for version in _tables_to_touch(wanted)]
            for table in tables:
                if _differences(table, wanted[table.version]):
                    _rewrite(table, wanted[table.version])

    def remove(self, *, sparing: bool = False) -> None:
        nothing: dict[IPVersion, Wanted] = {4: {}, 6: {}}
        with xtables_lock():
            for version in _tables_to_touch(nothing):
                with NatTable(version) as table:
                    if sparing and _is_busy(table):
                        _unhook(table)
                        table.commit()
                    elif _differences(table, {}):
                        _rewrite(table, {})

    def check(self, plan: CapturePlan) -> list[str]:
        wanted = {version: wanted_rules(plan, version) for version in IP_VERSIONS}
        found: list[str] = []
        for version in _tables_to_touch(wanted):
            with NatTable(version) as table:
                found += _differences(table, wanted[version])
        return found

    def installed(self) -> bool:
        nothing: dict[IPVersion, Wanted] = {4: {}, 6: {}}
        for version in _tables_to_touch(nothing):
            with NatTable(version) as table:
                if table.has_chain(CHAIN):
                    return True
        return False

    def probe(self) -> None:
        with NatTable(4):
            pass


def wanted_rules(plan: CapturePlan, version: IPVersion) -> Wanted:
    """All rules that a plan needs in one family.

    Raises:
        CaptureError: the plan's user does not exist.
    """
    networks = plan.networks_of(version)
    if not networks:
        return {}
    except_uid = None if plan.user is None else uid_of(plan.user)
    passed = [Rule(version, RETURN, network) for network in plan.excluded_of(version)]
    captured = [Rule(version, REDIRECT, network, to_port=plan.listen_port) for network in networks]
    wanted = {CHAIN: passed + captured, "OUTPUT": [Rule(version, CHAIN, except_uid=except_uid)]}
    if plan.gateway:
        wanted["PREROUTING"] = [Rule(version, CHAIN)]
    return wanted


def _tables_to_touch(wanted: dict[IPVersion, Wanted]) -> list[IPVersion]:
    """Families with something wanted, or where something may have to go.

    Others are left alone: opening a table makes the kernel create it.
    """
    return [version for version in IP_VERSIONS if wanted[version] or _may_hold_rules(version)]


def _may_hold_rules(version: IPVersion) -> bool:
    """Whether an earlier plan may have left rules in a family."""
    exists = table_exists(version)
    if exists is not None or version == 4:
        # Unknown, for IPv4, is a yes: whoever lacks the capabilities shall hear of it.
        return exists is not False
    try:
        with NatTable(version):
            return True
    except CaptureError:
        # A kernel without IPv6 NAT is nobody's concern until a plan has an IPv6 network.
        return False


def _differences(table: NatTable, wanted: Wanted) -> list[str]:
    where = f"IPv{table.version} nat table"
    found: list[str] = []
    if CHAIN in wanted and not table.has_chain(CHAIN):
        found.append(f"{where}: chain {CHAIN} is missing")
    elif CHAIN not in wanted and table.has_chain(CHAIN):
        found.append(f"{where}: chain {CHAIN} is there, and should not be")
    else:
        found += _chain_differences(f"{where}, chain {CHAIN}", table.entries(CHAIN), wanted.get(CHAIN, []))
    for hook in HOOKS:
        found += _chain_differences(f"{where}, chain {hook}", _jumps(table, hook), wanted.get(hook, []))
    return found


def _chain_differences(where: str, entries: list[Entry], wanted: list[Rule]) -> list[str]:
    """Compare rules with what they should be, by what they do to packets."""
    actual = [entry.essence() for entry in entries]
    expected = {encode(rule).essence(): rule for rule in wanted}
    if actual == list(expected):
        return []
    found = [f"{where}: missing: {rule}" for essence, rule in expected.items() if essence not in actual]
    for essence, times in Counter(actual).items():
        if essence not in expected:
            found.append(f"{where}: unexpected rule to {essence.target or 'nowhere'}")
        elif times > 1:
            found.append(f"{where}: {times} times: {expected[essence]}")
    return found or [f"{where}: the rules are in another order"]


def _jumps(table: NatTable, hook: str) -> list[Entry]:
    return [entry for entry in table.entries(hook) if entry.target == CHAIN]


def _rewrite(table: NatTable, wanted: Wanted) -> None:
    """Replace all that is ours, in one step for the kernel."""
    _unhook(table)
    if table.has_chain(CHAIN):
        table.flush_chain(CHAIN)
        if CHAIN not in wanted:
            table.delete_chain(CHAIN)
    elif CHAIN in wanted:
        table.create_chain(CHAIN)
    for rule in wanted.get(CHAIN, []):
        table.append(CHAIN, encode(rule))
    for hook in HOOKS:
        for rule in wanted.get(hook, []):
            table.insert_first(hook, encode(rule))
    table.commit()


def _unhook(table: NatTable) -> None:
    """Let nothing lead to our chain any more; :meth:`NatTable.commit` puts it into force."""
    for hook in HOOKS:
        for entry in _jumps(table, hook):
            table.delete(hook, entry)


def _is_busy(table: NatTable) -> bool:
    """Whether connections are open that our rules redirected."""
    ports = {entry.to_port for entry in table.entries(CHAIN)}
    return any(has_connections(port) for port in ports if port is not None)
