"""Rules of the legacy packet filter, as the bytes that the kernel takes and gives.

python-iptables would make them through libxtables' extensions, but those serve one address
family in a process: what was loaded for IPv4 is not found for IPv6 afterwards. Three kinds of
rules are few enough to be written by hand, and bytes can be compared; docs/adr/0003 has more.

The layouts are the kernel's interface to user space and do not change: under include/uapi/linux/
netfilter/x_tables.h, netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h,
netfilter/xt_owner.h, netfilter/xt_comment.h and netfilter/nf_nat.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tunneler.addresses import Network
from tunneler.capture.rules import IPVersion

COMMENT = "tunneler"
"""On every rule, for whoever lists them."""

RETURN = "RETURN"
REDIRECT = "REDIRECT"

IP6T_F_PROTO = 0x01
XT_OWNER_UID = 1 << 0
NF_NAT_RANGE_PROTO_SPECIFIED = 1 << 1

_IPT_ENTRY = struct.Struct("@ 4s4s4s4s 16s16s16s16s HBB I HH I QQ")
"""struct ipt_ip (src, dst, their masks, interfaces, their masks, proto, flags, invflags), then
nfcache, target_offset, next_offset, comefrom, packet and byte counters."""
_IP6T_ENTRY = struct.Struct("@ 16s16s16s16s 16s16s16s16s HBBB3x I HH I QQ")
"""The same for IPv6, with tos after proto."""
_IP_SIZE: dict[IPVersion, int] = {4: 84, 6: 136}
"""sizeof(struct ipt_ip), sizeof(struct ip6t_ip6)."""

_EXTENSION_HEAD = struct.Struct("@ H29sB")
"""struct xt_entry_match and xt_entry_target: size, name, revision."""
_OWNER = struct.Struct("@ IIII BB")
"""struct xt_owner_match_info, revision 1: lowest and highest uid, the same for gid, match, invert."""
_COMMENT = struct.Struct("@ 256s")
_VERDICT = struct.Struct("@ i")
"""struct xt_standard_target; libiptc fills it in from the name."""
_REDIRECT4 = struct.Struct("@ I I4s4s HH")
"""struct nf_nat_ipv4_multi_range_compat: one range of flags, addresses and ports."""
_REDIRECT6 = struct.Struct("@ I 16s16s HH")
"""struct nf_nat_range."""

_ALIGNMENT = struct.calcsize("@BQ") - struct.calcsize("@Q")
"""XT_ALIGN: the alignment of __u64 inside a structure."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about TCP: whose, going where, and what becomes of it."""

    version: IPVersion
    target: str
    """RETURN, REDIRECT or the name of a chain."""
    destination: Network | None = None
    """None: any."""
    except_uid: int | None = None
    """Connections of this user do not match."""
    to_port: int | None = None
    """With REDIRECT: the port."""

    def __str__(self) -> str:
        """As iptables-save(8) would show it, but for the comment."""
        owner = "" if self.except_uid is None else f"-m owner ! --uid-owner {self.except_uid} "
        destination = "" if self.destination is None else f"-d {self.destination} "
        port = "" if self.to_port is None else f" --to-ports {self.to_port}"
        return f"{destination}-p tcp {owner}-j {self.target}{port}"


class Essence(NamedTuple):
    """What of a rule decides about packets: equal essences, equal effects."""

    head: bytes
    matches: tuple[tuple[bytes, int, bytes], ...]
    """Name, revision and parameters of each."""
    target: str
    parameters: bytes


class Entry(NamedTuple):
    """A rule as the kernel holds it: its bytes, and the name of its target as libiptc tells it."""

    version: IPVersion
    raw: bytes
    target: str

    @property
    def target_offset(self) -> int:
        """Where the target begins."""
        offset: int = (_IPT_ENTRY if self.version == 4 else _IP6T_ENTRY).unpack_from(self.raw)[-5]
        return offset

    def essence(self) -> Essence:
        """All but counters, offsets and verdict numbers, which the kernel and libiptc fill in."""
        head = self.raw[: _IP_SIZE[self.version]]
        parameters = self.raw[self.target_offset + _EXTENSION_HEAD.size :] if self.target == REDIRECT else b""
        return Essence(head, tuple(self._matches()), self.target, parameters)

    @property
    def to_port(self) -> int | None:
        """Where REDIRECT sends connections; None for any other target."""
        if self.target != REDIRECT:
            return None
        layout = _REDIRECT4 if self.version == 4 else _REDIRECT6
        port: int = layout.unpack_from(self.raw, self.target_offset + _EXTENSION_HEAD.size)[-1]
        return socket.ntohs(port)

    def _matches(self) -> Iterator[tuple[bytes, int, bytes]]:
        offset = (_IPT_ENTRY if self.version == 4 else _IP6T_ENTRY).size
        while offset < self.target_offset:
            size, name, revision = _EXTENSION_HEAD.unpack_from(self.raw, offset)
            # What the kernel writes of a name ends at its zero byte; behind it is whatever was in memory.
            yield name.partition(b"\0")[0], revision, self.raw[offset + _EXTENSION_HEAD.size : offset + size]
            offset += size


def encode(rule: Rule) -> Entry:
    """The bytes of a rule, with its target's name in place of a verdict number, as libiptc wants it."""
    matches = _extension("comment", 0, _COMMENT.pack(COMMENT.encode("ascii")))
    if rule.except_uid is not None:
        uid = rule.except_uid
        matches += _extension("owner", 1, _OWNER.pack(uid, uid, 0, 0, XT_OWNER_UID, XT_OWNER_UID))
    target = _extension(rule.target, 0, _parameters(rule))
    head = _head4 if rule.version == 4 else _head6
    return Entry(rule.version, head(rule, len(matches), len(target)) + matches + target, rule.target)


def renamed(entry: Entry) -> bytes:
    """The bytes of an entry read from the kernel, in the form of :func:`encode`."""
    start = entry.target_offset
    size, _, revision = _EXTENSION_HEAD.unpack_from(entry.raw, start)
    named = _EXTENSION_HEAD.pack(size, entry.target.encode("ascii"), revision)
    return entry.raw[:start] + named + entry.raw[start + _EXTENSION_HEAD.size :]


def _parameters(rule: Rule) -> bytes:
    if rule.to_port is None:
        return _VERDICT.pack(0)
    port = socket.htons(rule.to_port)
    if rule.version == 4:
        return _REDIRECT4.pack(1, NF_NAT_RANGE_PROTO_SPECIFIED, b"", b"", port, port)
    return _REDIRECT6.pack(NF_NAT_RANGE_PROTO_SPECIFIED, b"", b"", port, port)


def _extension(name: str, revision: int, data: bytes) -> bytes:
    data += bytes(-len(data) % _ALIGNMENT)
    return _EXTENSION_HEAD.pack(_EXTENSION_HEAD.size + len(data), name.encode("ascii"), revision) + data


def _head4(rule: Rule, matches_size: int, target_size: int) -> bytes:
    address, mask = _packed(rule.destination)
    target_offset = _IPT_ENTRY.size + matches_size
    interfaces = (b"", b"", b"", b"")
    protocol = (socket.IPPROTO_TCP, 0, 0)
    rest = (0, target_offset, target_offset + target_size, 0, 0, 0)
    return _IPT_ENTRY.pack(b"", address, b"", mask, *interfaces, *protocol, *rest)


def _head6(rule: Rule, matches_size: int, target_size: int) -> bytes:
    address, mask = _packed(rule.destination)
    target_offset = _IP6T_ENTRY.size + matches_size
    interfaces = (b"", b"", b"", b"")
    protocol = (socket.IPPROTO_TCP, 0, IP6T_F_PROTO, 0)
    rest = (0, target_offset, target_offset + target_size, 0, 0, 0)
    return _IP6T_ENTRY.pack(b"", address, b"", mask, *interfaces, *protocol, *rest)


def _packed(network: Network | None) -> tuple[bytes, bytes]:
    """Address and mask; all zeros match everything."""
    return (b"", b"") if network is None else (network.network_address.packed, network.netmask.packed)
