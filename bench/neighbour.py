"""A client beside whatever else a server does: it greets, logs in and delivers one small message, again and again.

    python -m bench.neighbour ADDRESS PORT USER PASSWORD RECIPIENT

It prints the seconds that each delivery took, a line each, until its standard input ends.
"""

import argparse
import smtplib
import ssl
import sys
import threading
import time

_OCTETS = b"From: <%s>\r\nSubject: neighbour\r\n\r\n" + (b"x" * 78 + b"\r\n") * 12


def deliver(options: argparse.Namespace, context: ssl.SSLContext) -> None:
    """Deliver one message. Raises `smtplib.SMTPException`, `OSError`."""
    with smtplib.SMTP_SSL(options.address, options.port, "neighbour.test", timeout=60, context=context) as client:
        client.login(options.user, options.password)
        client.sendmail(options.user, [options.recipient], _OCTETS % options.user.encode())


def main() -> None:
    """Deliver until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("user")
    parser.add_argument("password")
    parser.add_argument("recipient")
    options = parser.parse_args()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    deliver(options, context)  # the first login hashes a password; later ones are remembered
    print("ready", flush=True)
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    while not ended.is_set():
        began = time.monotonic()
        deliver(options, context)
        print(f"{time.monotonic() - began:.6f}", flush=True)


if __name__ == "__main__":
    main()
