"""What a fuzzer runs: a target with its corpus, one case of it, and what counts as a finding.

A case is known by target, seed and number: it can be run again alone. A finding is an exception that the target does
not allow, an invariant of its own that is broken, another result for the same octets in other pieces, or no end.
"""

import random
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tests.fuzz.mutation import mutated, pieces

_PATIENCE = 20.0  # seconds of processor time for one case, which takes a thousandth of that
_MOST_TRIES = 3000  # to make the input of a finding smaller


@dataclass(frozen=True)
class Target:
    """`run` takes the octets in pieces, checks what must hold, and returns all that can be seen from outside.

    `whole`: pieces mean nothing to it, it gets one.
    """

    name: str
    corpus: Sequence[bytes]
    run: Callable[[Sequence[bytes]], object]
    words: Sequence[bytes] = ()
    whole: bool = False


class Finding(Exception):
    """A case that must be looked at; the message has everything to run it again."""


class _NoEnd(Exception):
    """A case does not end."""


def fuzz(target: Target, seed: int, number: int) -> None:
    """Run one case. Raises `Finding`, with the smallest input that still shows it."""
    rng = random.Random(f"{target.name} {seed} {number}")
    data = mutated(target.corpus, target.words, rng)
    cut = rng.getrandbits(32)
    problem = _problem(target, data, cut)
    if problem is None:
        return
    data = _shrunk(target, data, cut, problem.splitlines()[-1])
    again = _problem(target, data, cut) or problem
    where = f"{target.name}, seed {seed}, case {number}"
    raise Finding(f"{where}:\n{again}\ninput of {len(data)} octets: {data[:2000]!r}")


def _problem(target: Target, data: bytes, cut: int) -> str | None:
    """Return in words what is wrong with an input, the kind in the last line; None when nothing is."""
    try:
        with _patience():
            seen = target.run([data])
            if target.whole:
                return None
            cuts = pieces(data, random.Random(cut))
            other = target.run(cuts)
    except Exception as error:  # noqa: BLE001  that is what we are here for
        trace = "".join(traceback.format_exception(error)[-12:])
        return f"{trace}\n{type(error).__name__}: {str(error)[:80]!r}"
    if seen == other:
        return None
    return f"at once: {seen!r:.3000}\nin pieces of {[len(piece) for piece in cuts]}: {other!r:.3000}\nother result"


@contextmanager
def _patience() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _NoEnd(f"no end after {_PATIENCE:g} s of work")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, _PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _shrunk(target: Target, data: bytes, cut: int, kind: str) -> bytes:
    """Return a smaller input that has the same problem."""
    if kind.startswith("_NoEnd"):
        return data
    size, tries = len(data) // 2, 0
    while size:
        position = 0
        while position < len(data) and tries < _MOST_TRIES:
            tries += 1
            less = data[:position] + data[position + size :]
            problem = _problem(target, less, cut)
            if problem is not None and problem.splitlines()[-1] == kind:
                data = less
            else:
                position += size
        size //= 2
    return data
