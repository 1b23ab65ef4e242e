"""Makes failed TLS handshakes visible in the node's log.

gRPC refuses a caller without a certificate, or with one of another CA, before any Python code runs, and says so only on
file descriptor 2. While a watch is on, that descriptor is a pipe whose lines go on to where they went before; those
about handshakes become events too. gRPC does not name the refused certificate there, so the event cannot either.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from node.log import log

_HANDSHAKE = re.compile(rb"ssl_transport_security\.cc:\d+\] Handshake failed .*OPENSSL_internal:([A-Z0-9_]+)")
_EVENTS = {
    b"PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls.certificate-missing",
    b"CERTIFICATE_VERIFY_FAILED": "tls.certificate-foreign",
    b"TLSV1_ALERT_UNKNOWN_CA": "tls.server-refused",
    b"SSLV3_ALERT_BAD_CERTIFICATE": "tls.server-refused",
    b"TLSV1_ALERT_CERTIFICATE_UNKNOWN": "tls.server-refused",
    b"SSLV3_ALERT_CERTIFICATE_UNKNOWN": "tls.server-refused",
}


@contextmanager
def handshakes_logged() -> Iterator[None]:
    """While it is open, every handshake that gRPC refuses in this process is logged; one at a time in a process."""
    saved = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    thread = threading.Thread(target=_forward, args=(reader, saved), name="handshakes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(saved, 2)  # closes the pipe's last writer here, so that the thread comes to its end
        thread.join(timeout=1)
        if not thread.is_alive():  # else a child still holds the pipe, and its lines go on
            os.close(saved)


def _forward(reader: int, onward: int) -> None:
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            os.write(onward, line)
            if found := _HANDSHAKE.search(line):
                log(_EVENTS.get(found[1], "tls.malformed"))
