"""What a carrier needs of whoever owns it: a dialler's link, or a listener's guest."""

from __future__ import annotations

from typing import Protocol

from tunneler.errors import TransportError
from tunneler.http2.events import Event


class CarrierOwner(Protocol):
    """Whom a carrier tells."""

    def established(self) -> None:
        """TLS is ready; nothing that the peer said has been looked at. May shut the carrier."""
        ...

    def settled(self) -> None:
        """The peer has said its SETTINGS: it has accepted our certificate, and speaks HTTP/2."""
        ...

    def event(self, event: Event) -> None: ...

    def room_made(self) -> None:
        """All that was written has left; called after it had not."""
        ...

    def failed(self, error: TransportError) -> None:
        """The peer is of no more use; ``carrier_closed`` follows when it has been told why."""
        ...

    def carrier_closed(self, error: TransportError | None) -> None:
        """The last call; None when both sides ended in good order."""
        ...
