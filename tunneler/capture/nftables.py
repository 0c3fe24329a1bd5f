"""Capture with nftables: table ``inet tunneler``, replaced as a whole in one transaction.

::

    output ─────────── tcp, not of the exempt user ──┐
    prerouting ─────── tcp (gateway only) ───────────┴─▶ capture:  @excluded return
                                                                   @captured redirect
"""

from __future__ import annotations

from tunneler.capture import libnftables
from tunneler.capture.listeners import has_connections
from tunneler.capture.nft_ruleset import (
    TABLE,
    differences,
    redirect_ports,
    removal,
    replacement,
    ruleset,
    unhooking,
)
from tunneler.capture.rules import CapturePlan
from tunneler.capture.users import uid_of
from tunneler.errors import CaptureError, CaptureUnavailable


class NftablesBackend:
    """The second backend; see :class:`tunneler.capture.rules.CaptureBackend`.

    Raises:
        CaptureError: on construction, when libnftables cannot be loaded.
    """

    name = "nftables"

    def __init__(self) -> None:
        libnftables.load()

    def install(self, plan: CapturePlan) -> None:
        if self.check(plan):
            libnftables.run(replacement(_wanted(plan)))

    def remove(self, *, sparing: bool = False) -> None:
        if not self.installed():
            return
        listed = self._listed()
        busy = sparing and any(map(has_connections, redirect_ports(listed)))
        libnftables.run(unhooking(listed) if busy else removal())

    def check(self, plan: CapturePlan) -> list[str]:
        if not self.installed():
            return ["table inet tunneler is missing"]
        return differences(_wanted(plan), self._listed())

    def _listed(self) -> list[libnftables.Object]:
        return libnftables.run([{"list": {"table": TABLE}}])

    def installed(self) -> bool:
        tables = (item.get("table", {}) for item in libnftables.run([{"list": {"tables": None}}]))
        return any(TABLE.items() <= table.items() for table in tables)

    def probe(self) -> None:
        try:
            self.installed()
        except CaptureError as error:
            if libnftables.NOT_PERMITTED in str(error):
                raise
            raise CaptureUnavailable(str(error)) from error


def _wanted(plan: CapturePlan) -> list[libnftables.Object]:
    return ruleset(plan, None if plan.user is None else uid_of(plan.user))
