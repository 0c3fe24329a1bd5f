"""A peer with a valid certificate and bad manners, run as a program on a host of a lab.

``python -m tests.namespaces.rogue SERVER CERTIFICATES METHOD UNTIL`` opens one link, sends the
batches that come in on standard input, each as a line of hex, and writes what it hears: the name of
each frame's kind with its code, and at last ``STATUS`` with that of the call. It hangs up after a
frame of the kind UNTIL, or after DEADLINE.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from tunneler.wire.codec import decode

DEADLINE = 10.0
"""Seconds that a call may last."""
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def main() -> None:
    server, certificates, method, until = sys.argv[1:]
    batches = [bytes.fromhex(line) for line in sys.stdin]
    own = Path(certificates)
    credentials = grpc.ssl_channel_credentials(
        (own.parent / "ca" / "cert.pem").read_bytes(),
        (own / "key.pem").read_bytes(),
        (own / "cert.pem").read_bytes(),
    )
    heard_enough = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from batches
        heard_enough.wait(DEADLINE)

    with grpc.secure_channel(server, credentials, UNLIMITED) as channel:
        stream = channel.stream_stream(f"/tunneler.v1.Tunnel/{method}", None, None)
        call = stream(requests(), timeout=DEADLINE)
        try:
            for batch in call:
                for frame in decode(batch):
                    code = getattr(frame, "code", None)
                    print(type(frame).__name__, code.name if code else "", flush=True)
                    if type(frame).__name__ == until:
                        call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs
            print("STATUS OK")
        except grpc.RpcError as error:
            print("STATUS", error.code().name)
        finally:
            heard_enough.set()


if __name__ == "__main__":
    main()
