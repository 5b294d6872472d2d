"""Writes docs/smtp-states.md: which state of an SMTP session follows which, from the table of commands.

    python tests/tools/smtp_states.py > docs/smtp-states.md

`tests/docs/test_smtp_states_page.py` keeps the page current; `tests/protocol/test_smtp_states.py` walks every arrow.
"""

import sys
from collections.abc import Iterator, Mapping

from waypost.protocol.smtp.commands import COMMANDS, READS
from waypost.protocol.smtp.dialogue import State

_MEANINGS = {
    State.START: "connected, or TLS has just begun: nobody has said EHLO",
    State.READY: "between transactions",
    State.MAIL: "a transaction without recipients",
    State.RCPT: "a transaction with recipients",
    State.CONTENT: "reads content up to the dot (DATA)",
    State.CHUNK: "reads octets of a chunk (BDAT)",
    State.BDAT: "between two chunks of one message",
    State.AUTH: "a login is under way",
    State.CLOSED: "the session is over",
}

_OPENING = """\
<!-- Made by `python tests/tools/smtp_states.py` from src/waypost/protocol/smtp/commands.py: change that file. -->

# States of an SMTP session

What a server session of SMTP, submission or LMTP may be told, and where it leads: the table `COMMANDS` of
`src/waypost/protocol/smtp/commands.py`. A command in a state that has no line for it is answered 503; one that is
refused leaves the state as it is, unless the table says otherwise. Too many errors, a time-out or the end of the
service lead from every state to CLOSED.
"""


def arrows() -> dict[tuple[State, State], list[str]]:
    """Return the steps between states, each with what causes it; steps that change nothing are left out."""
    found: dict[tuple[State, State], list[str]] = {}

    def add(before: State, after: State, why: str) -> None:
        if before is not after:
            found.setdefault((before, after), []).append(why)

    for verb, command in COMMANDS.items():
        name = verb.decode()
        for before, after in command.follows.items():
            add(before, after, name)
            if command.refused is not None:
                add(before, command.refused, f"a refused {name}")
    for before, ends in READS.items():
        for after, why in ends.items():
            add(before, after, why)
    return dict(sorted(found.items()))


def render() -> str:
    """Return the whole page."""
    return "".join([_OPENING, "\n```mermaid\n", *_diagram(), "```\n\n", *_states(), "\n", *_commands()])


def _diagram() -> Iterator[str]:
    yield "stateDiagram-v2\n"
    yield f"    [*] --> {State.START.name}\n"
    for (before, after), causes in arrows().items():
        if after is not State.CLOSED:
            yield f"    {before.name} --> {after.name}: {', '.join(causes)}\n"
    ends = [before.name for before, after in arrows() if after is State.CLOSED]
    for name in ends:
        yield f"    {name} --> [*]: QUIT\n"


def _states() -> Iterator[str]:
    yield "| state | meaning |\n|---|---|\n"
    for state in State:
        yield f"| {state.name} | {_MEANINGS[state]} |\n"


def _commands() -> Iterator[str]:
    yield "| command | in | leads to | defined in |\n|---|---|---|---|\n"
    for verb, command in COMMANDS.items():
        names = ", ".join(state.name for state in command.follows)
        yield f"| {verb.decode()} | {names} | {_where(command.follows, command.refused)} | {command.section} |\n"


def _where(follows: Mapping[State, State], refused: State | None) -> str:
    if all(before is after for before, after in follows.items()):
        return "the same state"
    ends = dict.fromkeys(follows.values())
    parts = []
    for end in ends:
        starts = [before.name for before, after in follows.items() if after is end]
        parts.append(end.name if len(ends) == 1 else f"{end.name} (from {', '.join(starts)})")
    return "; ".join(parts) + (f"; refused: {refused.name}" if refused is not None else "")


if __name__ == "__main__":
    sys.stdout.write(render())
