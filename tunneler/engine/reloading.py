"""A role takes on a changed configuration while it works.

request  →  read it again (not in this process)  →  what may change now?  →  the role puts that in force

Requests that come meanwhile are one more. A configuration that is wrong, or that the role cannot
put in force, changes nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

from tunneler.config.changes import changes
from tunneler.engine.lifecycle import Lifecycle
from tunneler.errors import TunnelerError
from tunneler.observability.log import EventLog

_log = EventLog("reloading")


class Reconfigurable(Protocol):
    """A role, as far as its configuration goes; that is as :mod:`tunneler.config.plain` makes it."""

    @property
    def config(self) -> Any: ...

    async def reconfigure(self, new: Any) -> None:
        """Put another configuration in force, for what there is and for what comes.

        Raises:
            TunnelerError: it cannot be; the old one still is.
        """
        ...


async def reload_on_request(life: Lifecycle, role: Reconfigurable) -> None:
    """Serve requests to reload, one after the other, until cancelled."""
    while True:
        await life.reload.wait()
        life.reload.clear()
        with life.reloading():
            await _reload(life, role)


async def _reload(life: Lifecycle, role: Reconfigurable) -> None:
    try:
        difference = changes(role.config, await life.reread())
        await role.reconfigure(difference.config)
    except TunnelerError as error:
        lines = str(error).splitlines()
        for line in lines:
            _log.error("reload_refused", error=line)
        life.trouble = f"reload refused: {lines[0]}"
        return
    life.trouble = None
    _log.info("reloaded", changed=" ".join(difference.live) or "nothing")
    if difference.pending:
        _log.warning("restart_needed", changed=" ".join(difference.pending))
