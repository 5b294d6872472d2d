"""Runs every benchmark tiny, to prove that all of them work. Times are not judged.

    python -m bench.smoke

It needs root, as the benchmarks do: Postfix and ports below 1024 do not go without.
"""

import os
import time
from collections.abc import Callable, Sequence

from bench import accept, depth, hold, idle, pop3, profile, relay, storage

_RUNS: tuple[tuple[Callable[[Sequence[str]], None], str], ...] = (
    (accept.main, "--all --rounds 1 --scale 0.01"),
    (accept.main, "--base HEAD --rounds 1 --scale 0.01"),
    (relay.main, "--messages 40 --rounds 1"),
    (relay.main, "--hanging --destinations 20 --messages 40 --rounds 1"),
    (depth.main, "--entries 2000 --destinations 200 --messages 40 --rounds 1"),
    (idle.main, "--connections 40 --messages 40 --rounds 1"),
    (idle.main, "--connections 40 --messages 40 --rounds 1 --tls"),
    (pop3.main, "--sessions 4 --messages 10 --rounds 1"),
    (lambda arguments: hold.main(arguments, strict=False), "--rounds 1 --scale 0.01"),
    (storage.main, "--seconds 0.2 --rounds 1 --sizes 1024 --messages 200"),
    (profile.main, "accept --scale 0.01"),
)


def main() -> None:
    """Run all; the first that fails ends it with its traceback."""
    if os.geteuid() != 0:
        print("bench: not tried: it needs root")
        return
    began = time.monotonic()
    for run, arguments in _RUNS:
        print(f"== {run.__module__} {arguments}", flush=True)
        run(arguments.split())
    print(f"bench: all work, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
