"""The keeper of the rules: the one process of tunneler with a privilege, and one that nobody can talk to.

install the rules  →  ready  →  twice a second: is the client there?  →  once: are the rules as wanted?
somebody flushed them: mend  ·  the client is down: pause, if so configured  ·  a server moved: let it through
SIGHUP: read the configuration anew  ·  stop: remove the rules

One thread without an event loop, which waits for signals and for nothing else.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunneler.capture.gate import Gate
from tunneler.capture.listeners import is_heard
from tunneler.capture.liveness import client_state
from tunneler.capture.rules import CapturePlan
from tunneler.errors import CaptureError, ExitStatus, TunnelerError
from tunneler.observability.log import EventLog
from tunneler.observability.sparing import Sparing
from tunneler.roles.capture_aim import Aim, changed_keys
from tunneler.systemd.notify import Notifier

if TYPE_CHECKING:
    from tunneler.config.model import ClientConfig

TURN_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 1.0
"""Between two comparisons of the rules with what they should be."""
CHECK_SHARE: Final = 0.02
"""Of a processor that comparisons may use: with very many rules of others, one takes long."""

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
SIGNALS: Final = STOPS | {signal.SIGHUP}

_log = EventLog("capture")


def run(load: Callable[[], ClientConfig], clients: Path) -> ExitStatus:
    """Keep the rules until asked to stop.

    Args:
        load: reads the client's configuration: now, and at each SIGHUP.
        clients: where a client says whether it lives: its RuntimeDirectory=.

    Raises:
        TunnelerError: it cannot start, or rules remain.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with Notifier.of_environment(_log.warning) as notifier:
        keeper = RuleKeeper(Aim(load()), clients, notifier)
        crashed = True
        try:
            keeper.start()
            while (number := _next_signal(TURN_SECONDS)) not in STOPS:
                if number is signal.SIGHUP:
                    keeper.reload(load)
                keeper.turn(time.monotonic())
            notifier.stopping("removing the rules")
            crashed = False
        finally:
            keeper.stop(crashed=crashed)
    return ExitStatus.OK


def _next_signal(seconds: float) -> signal.Signals | None:
    """The next signal; None: there was none for that time."""
    arrived = signal.sigtimedwait(SIGNALS, seconds)
    # Continued (SIGCONT) when the time was up, CPython returns what happened to be in memory.
    if arrived is None or arrived.si_signo not in SIGNALS:
        return None
    return signal.Signals(arrived.si_signo)


class RuleKeeper:
    """See the module."""

    def __init__(self, aim: Aim, clients: Path, notifier: Notifier) -> None:
        self._aim = aim
        self._plan = self._wanted = aim.plan()
        self._clients = clients
        self._notifier = notifier
        self._gate = Gate(aim.config.capture.when_down)
        self._check_due = 0.0
        self._mended = 0
        self._mended_lines, self._failed_lines = Sparing(), Sparing()
        self._failure: CaptureError | None = None
        self._not_found: str | None = None
        self._refused: str | None = None
        self._status = ""

    # The life of the rules.

    def start(self) -> None:
        """Put the rules into force.

        Raises:
            CaptureError: the packet filter refused.
        """
        self._aim.backend.install(self._wanted)
        _log.info("capture_installed", backend=self._aim.backend.name, networks=self._networks())
        self._tell_ready()

    def turn(self, now: float) -> None:
        """Look once how things are, and put right what is not."""
        self._notifier.alive()
        self._look_for_servers(now)
        self._look_for_client(now)
        if now >= self._check_due:
            self._check(now)
        status = self._describe()
        if status != self._status:
            self._notifier.status(status)
        self._status = status

    def reload(self, load: Callable[[], ClientConfig]) -> None:
        """Follow the configuration as it is now; where that cannot be followed, what was goes on."""
        self._notifier.reloading()
        try:
            aim = Aim(load())
        except TunnelerError as error:
            _log.error("reload_refused", error=error, hint="the configuration as it was stays in force")
            self._refused = f"reload refused: {str(error).splitlines()[0]}"
        else:
            self._refused = None
            changed = changed_keys(self._aim.config, aim.config)
            self._adopt(aim, time.monotonic())
            _log.info("reloaded", changed=changed or "nothing")
        self._tell_ready()

    def stop(self, *, crashed: bool) -> None:
        """Remove the rules; after a crash, what is open lives on, as this is started again.

        Raises:
            CaptureError: they remain.
        """
        self._aim.lookup.close()
        self._aim.backend.remove(sparing=crashed)
        _log.info("capture_removed", backend=self._aim.backend.name)

    # One turn.

    def _look_for_servers(self, now: float) -> None:
        lookup = self._aim.lookup
        if lookup.look(now):
            self._plan = self._aim.plan()
            self._want_again(now)
            _log.info("servers_found", addresses=" ".join(map(str, lookup.addresses)))
        if lookup.failure != self._not_found:
            self._not_found = lookup.failure
            if lookup.failure is not None:
                _log.warning("server_not_found", error=lookup.failure)

    def _look_for_client(self, now: float) -> None:
        heard = is_heard(self._aim.config.listen_port)
        if not self._gate.look(client_state(self._clients), heard=heard, now=now):
            return
        self._want_again(now)
        if self._gate.trouble is None:
            _log.info("client_back")
        else:
            fate = "are refused" if self._gate.captures else "are not captured"
            _log.warning("client_down", reason=self._gate.trouble, effect=f"new connections {fate}")

    def _check(self, now: float) -> None:
        began = time.monotonic()
        try:
            differences = self._aim.backend.check(self._wanted)
        except CaptureError as error:
            self._failed(error, now)
            differences = []
        else:
            self._failure = None
        self._check_due = now + max(CHECK_SECONDS, (time.monotonic() - began) / CHECK_SHARE)
        if differences:
            self._mended += 1
            self._install(now)
            self._report_mended(differences, now)

    # What it takes.

    def _adopt(self, aim: Aim, now: float) -> None:
        old, self._aim = self._aim, aim
        old.lookup.close()
        self._gate.when_down = aim.config.capture.when_down
        self._plan = aim.plan()
        self._wanted = self._planned()
        self._install(now)
        if old.backend.name != aim.backend.name:
            try:
                old.backend.remove()
            except CaptureError as error:
                self._failed(error, now)

    def _want_again(self, now: float) -> None:
        """See what is wanted now, and put it into force if that is something new."""
        wanted = self._planned()
        if wanted != self._wanted:
            self._wanted = wanted
            self._install(now)

    def _planned(self) -> CapturePlan:
        return self._plan if self._gate.captures else self._plan.paused()

    def _install(self, now: float) -> None:
        """Put what is wanted into force; what fails is tried again when the rules are checked."""
        try:
            self._aim.backend.install(self._wanted)
        except CaptureError as error:
            self._failed(error, now)

    def _failed(self, error: CaptureError, now: float) -> None:
        self._failure = error
        passed_over = self._failed_lines.admit(now)
        if passed_over is not None:
            _log.error("capture_failed", backend=self._aim.backend.name, error=error, unsaid=passed_over)

    def _report_mended(self, differences: list[str], now: float) -> None:
        passed_over = self._mended_lines.admit(now)
        if passed_over is not None:
            _log.warning(
                "capture_mended",
                backend=self._aim.backend.name,
                found=differences[0],
                more=len(differences) - 1,
                unsaid=passed_over,
                hint="somebody else changes the rules",
            )

    def _tell_ready(self) -> None:
        self._status = self._describe()
        self._notifier.ready(self._status)

    def _describe(self) -> str:
        """One line for `systemctl status`."""
        trouble = self._gate.trouble
        if not self._gate.captures:
            parts = [f"{trouble}: new connections go where they would without tunneler"]
        else:
            parts = [f"capturing {self._networks()} by {self._aim.backend.name}"]
            parts += [f"{trouble}: new connections are refused"] if trouble else []
        parts += [f"mended so far: {self._mended}"] if self._mended else []
        parts += [str(self._failure)] if self._failure else []
        parts += [self._refused] if self._refused else []
        return "; ".join(parts)

    def _networks(self) -> str:
        return " ".join(map(str, self._plan.networks))
