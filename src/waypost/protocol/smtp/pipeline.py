"""Commands on their way out, and the handler of the reply to each (RFC 2920): for the client engine only.

Replies come in the order of commands, so one list of handlers says what each reply means. Where the server
does not offer PIPELINING, one command goes out at a time and the others wait here.
"""

from collections import deque
from collections.abc import Callable

from waypost.protocol.reply import Reply

Handler = Callable[[Reply, int], None]
"""Takes a reply, and the number that was given with its command."""


class Pipeline:
    """The commands of one session, sent and unsent. `pipelining` is what the server offers now."""

    __slots__ = ("_output", "_pending", "_waiting", "pipelining")

    def __init__(self) -> None:
        self.pipelining = False
        self._output: list[bytes] = []
        self._pending: deque[tuple[Handler, int]] = deque()
        self._waiting: deque[tuple[bytes, Handler, int]] = deque()

    def say(self, data: bytes, handler: Handler, argument: int = 0) -> None:
        """Write a command now."""
        self._output.append(data)
        self._pending.append((handler, argument))

    def later(self, data: bytes, handler: Handler, argument: int = 0) -> None:
        """Write a command as soon as `pump` finds that it may go."""
        self._waiting.append((data, handler, argument))

    def pump(self) -> None:
        """Write what may go out: everything with PIPELINING, else one command when no reply is owed."""
        if self.pipelining:
            while self._waiting:
                self.say(*self._waiting.popleft())
        elif self._waiting and not self._pending:
            self.say(*self._waiting.popleft())

    def write(self, data: bytes) -> None:
        """Write octets that get no reply: content."""
        self._output.append(data)

    def expect(self, handler: Handler, argument: int = 0) -> None:
        """Expect one more reply, after those that the server already owes."""
        self._pending.append((handler, argument))

    def next_handler(self) -> tuple[Handler, int] | None:
        """Return the handler of the reply that has come; None when the server owes no reply."""
        return self._pending.popleft() if self._pending else None

    @property
    def waiting(self) -> bool:
        """True while commands wait that may not go out yet."""
        return bool(self._waiting)

    def forget_waiting(self) -> None:
        """Drop the commands that were not written."""
        self._waiting.clear()

    def clear(self) -> None:
        """Forget unsent commands and expected replies; octets that were written stay in the output."""
        self._waiting.clear()
        self._pending.clear()

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        if not self._output:
            return b""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        return output
