"""HTTP/2 (RFC 9113) as far as gRPC's calls need it, and gRPC on it: bytes in, events out.

Nothing here does I/O, reads a clock or knows an event loop; ``now`` is an argument. What is
not needed (push, priorities, upgrades, compression of messages) is refused or ignored as the
RFC says, and everything that a peer can make us do has a bound in :mod:`tunneler.http2.limits`.
"""
