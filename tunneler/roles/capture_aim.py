"""What a configuration wants of the packet filter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from tunneler.capture.lookup import Lookup
from tunneler.capture.rules import CapturePlan
from tunneler.capture.select import backend, plan_for
from tunneler.capture.users import uid_of
from tunneler.config.changes import changes
from tunneler.errors import CaptureError

if TYPE_CHECKING:
    from types import SimpleNamespace

    from tunneler.config.model import ClientConfig

LOOKUP_PATIENCE: Final = 2.0
"""Seconds for the servers' names before the first rules; later they are found meanwhile."""

FOLLOWED: Final = frozenset({"server_addr", "listen_port", "target_cidr", "exclude", "capture", "log"})
"""Keys and sections of the client's configuration that mean something here."""


class Aim:
    """What one configuration wants, and with which packet filter.

    Raises:
        CaptureError: it cannot be had.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.backend = backend(config.capture.backend)
        self.backend.probe()
        # The number, once: a directory of users that does not answer must not hold up a repair.
        self._user = str(uid_of(config.capture.user)) if config.capture.user else None
        self.lookup = Lookup(config.server_addr)
        self.lookup.wait(time.monotonic(), LOOKUP_PATIENCE)
        if self._user is None and not self.lookup.complete:
            self.lookup.close()
            raise CaptureError(
                f"{self.lookup.failure or 'the servers have not been found yet'}; "
                "set capture.user to the user that the client runs as, so that its links need no address"
            )

    def plan(self) -> CapturePlan:
        """The rules while the client can carry connections."""
        return plan_for(
            networks=self.config.target_cidr,
            listen_port=self.config.listen_port,
            exclude=(*self.config.exclude, *self.lookup.addresses),
            gateway=self.config.capture.gateway,
            user=self._user,
        )


def changed_keys(old: ClientConfig, new: ClientConfig) -> str:
    """Those keys that have other values than before."""
    difference = changes(cast("SimpleNamespace", old), cast("SimpleNamespace", new))
    keys = (*difference.live, *difference.pending)
    return " ".join(key for key in keys if key.partition(".")[0] in FOLLOWED)
