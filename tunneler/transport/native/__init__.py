"""Links over gRPC's wire protocol, on the process's one thread.

A *carrier* is one socket with its TLS and its HTTP/2 connection (carrier.py). The dialler makes
one for each link; the listener has one for each peer, which may make several calls on it. The
sockets are served by the reactor that serves the local ones, so a batch that arrives and leaves
again crosses no thread, no queue and no task.
"""
