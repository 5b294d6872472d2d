"""How many messages a second are taken by SMTP and durably in their mailboxes, beside Postfix.

    python -m bench.accept [--messages N] [--size OCTETS] [--sessions N] [--recipients N] [--rounds N]

The load is Postfix's own `smtp-source`. The time ends when every message is in its mailbox.
"""

import argparse
import subprocess
import time

from bench.contenders import DOMAIN, Contender, PostfixContender, WaypostContender
from bench.harness import need, report, scratch, take_turns, wait_until

MAILBOXES = 100


def run(kind: type[WaypostContender] | type[PostfixContender], options: argparse.Namespace) -> tuple[float, float]:
    """One run of one contender, fresh: returns messages a second and CPU seconds."""
    addresses = options.messages * options.recipients
    with scratch() as folder:
        server: Contender = kind(folder, mailboxes=MAILBOXES, aliases=addresses)
        server.start()
        try:
            before = server.cpu()
            began = time.monotonic()
            subprocess.run(
                [need("smtp-source"), "-s", str(options.sessions), "-m", str(options.messages)]
                + ["-l", str(options.size), "-r", str(options.recipients), "-N"]
                + ["-f", "sender@elsewhere.test", "-t", f"user@{DOMAIN}", f"{server.address}:{server.port}"],
                check=True,
            )
            wait_until(
                lambda: server.delivered() >= addresses,
                seconds=120,
                what=f"{server.name} delivers {addresses} (it has {server.delivered()})",
            )
            seconds = time.monotonic() - began
            return options.messages / seconds, server.cpu() - before
        finally:
            server.stop()


def main() -> None:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    title = (
        f"accept: {options.messages} messages of {options.size} octets, {options.sessions} sessions, "
        f"{options.recipients} recipient(s)"
    )
    print(title)
    contenders = [
        ("waypost", lambda: run(WaypostContender, options)),
        ("postfix", lambda: run(PostfixContender, options)),
    ]
    report(title, "messages", take_turns(contenders, options.rounds))


if __name__ == "__main__":
    main()
