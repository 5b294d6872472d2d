"""How many messages a second go through the queue to another server, beside Postfix.

    python -m bench.relay [--messages N] [--size OCTETS] [--sessions N] [--rounds N]

`smtp-source` sends to the server, which relays everything to one `smtp-sink` (a fixed route, no DNS). The
time ends when the queue is empty.
"""

import argparse
import subprocess
import time

from bench.contenders import Contender, PostfixContender, WaypostContender
from bench.harness import need, report, scratch, take_turns, wait_until

SINK = ("127.0.8.9", 2526)


def run(kind: type[WaypostContender] | type[PostfixContender], options: argparse.Namespace) -> tuple[float, float]:
    """One run of one contender, fresh: returns messages a second and CPU seconds."""
    with scratch() as folder:
        server: Contender
        if kind is WaypostContender:
            # Relaying for strangers is never possible, so the sink's domain is one that is hosted elsewhere.
            server = WaypostContender(
                folder,
                mailboxes=1,
                domains=("sink.test",),
                extra=(
                    "[outbound]\nallow_private_addresses = true\n"
                    f'[[route]]\ndomains = ["sink.test"]\nhost = "[{SINK[0]}]"\nport = {SINK[1]}\n'
                ),
            )
        else:
            server = PostfixContender(
                folder,
                mailboxes=1,
                settings={"relayhost": f"[{SINK[0]}]:{SINK[1]}", "smtp_dns_support_level": "disabled"},
            )
        sink = subprocess.Popen(
            [need("smtp-sink"), "-u", "nobody", f"{SINK[0]}:{SINK[1]}", "1000"], stderr=subprocess.DEVNULL
        )
        server.start()
        try:
            before = server.cpu()
            began = time.monotonic()
            subprocess.run(
                [need("smtp-source"), "-s", str(options.sessions), "-m", str(options.messages)]
                + ["-l", str(options.size), "-f", "sender@elsewhere.test", "-t", "user@sink.test"]
                + [f"{server.address}:{server.port}"],
                check=True,
            )
            wait_until(
                lambda: server.queued() == 0,
                seconds=180,
                what=f"{server.name} empties its queue (it has {server.queued()})",
            )
            seconds = time.monotonic() - began
            return options.messages / seconds, server.cpu() - before
        finally:
            server.stop()
            sink.terminate()
            sink.wait()


def main() -> None:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"relay: {options.messages} messages of {options.size} octets, {options.sessions} sessions")
    contenders = [
        ("waypost", lambda: run(WaypostContender, options)),
        ("postfix", lambda: run(PostfixContender, options)),
    ]
    report("relay", "messages", take_turns(contenders, options.rounds))


if __name__ == "__main__":
    main()
