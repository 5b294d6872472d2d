"""The numbers and options by which queue commands choose entries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from waypost.storage import Filter, Storage

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Choice:
    """What an operator chose. `given` is false when no option said anything."""

    filter: Filter
    given: bool

    @property
    def numbers(self) -> tuple[int, ...]:
        """The entries that are named by their numbers."""
        one = () if self.filter.entry is None else (self.filter.entry,)
        return (*one, *self.filter.entries)


class _EntryType(click.IntRange):
    """The number of a queue entry, as storage holds it."""

    name = "entry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if str(value).endswith(".toml"):
            self.fail(f"{value} is not the number of an entry; name a configuration with --config FILE", param, ctx)
        return int(super().convert(value, param, ctx))


ENTRY = _EntryType(0, 2**63 - 1)


class _DurationType(click.ParamType[int]):
    """A duration such as `2h`, in microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from waypost.config.durations import parse_duration

        try:
            return value if isinstance(value, int) else parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} is {error}", param, ctx)


class _TraceType(click.ParamType[int]):
    """A trace id, 13 characters."""

    name = "trace id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from waypost.message.trace import parse_trace_id

        try:
            return value if isinstance(value, int) else parse_trace_id(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _DomainType(click.ParamType[str]):
    """A destination: a domain in the form in which domains are compared, or `[local]`."""

    name = "domain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from waypost.delivery.resolve import LOCAL_DESTINATION
        from waypost.message.address import AddressError, check_domain, domain_key

        try:
            if value != LOCAL_DESTINATION:
                check_domain(value)
            return domain_key(value)
        except AddressError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class _SenderType(click.ParamType[str]):
    """A reverse-path: an address, `<>`, or `@` and a domain."""

    name = "sender"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from waypost.message.address import Address, AddressError, check_domain

        if value == "<>":
            return str(value)
        try:
            if value.startswith("@"):
                check_domain(value[1:])
            else:
                Address.parse(value)
        except AddressError as error:
            self.fail(
                f'{value!r}: {error}; write an address, "@example.org" for a domain, or "<>" for reports', param, ctx
            )
        return str(value)


class _ErrorType(click.ParamType[str]):
    """Words of an error. Empty ones, as of a variable that a script forgot to set, would choose every entry."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if value else self.fail("it is empty; write words of the error", param, ctx)


_OPTIONS = (
    click.argument("entries", nargs=-1, type=ENTRY, metavar="[ENTRY]..."),
    click.option("--id", "entry", type=ENTRY, metavar="ENTRY", help="This entry."),
    click.option("--trace", type=_TraceType(), metavar="ID", help="Entries of this message."),
    click.option("--domain", type=_DomainType(), metavar="DOMAIN", help="Entries for this destination."),
    click.option(
        "--sender",
        type=_SenderType(),
        metavar="ADDRESS",
        help='From this address; "<>" for reports, "@DOMAIN" for a domain.',
    ),
    click.option("--older-than", type=_DurationType(), metavar="AGE", help='Older than this, such as "2h" or "5d".'),
    click.option("--newer-than", type=_DurationType(), metavar="AGE", help="Newer than this."),
    click.option("--error", type=_ErrorType(), metavar="TEXT", help="The last error has this in it."),
    click.option("--state", type=click.Choice(["ready", "held"]), help="Ready entries, or held ones."),
)


async def check_numbers(storage: Storage, choice: Choice) -> None:
    """Raise `NotFound` for the first number that is not an entry: a number that is named must exist."""
    for number in choice.numbers:
        await storage.queue.get(number)


def choosing_options(command: F) -> F:
    """Give a command the numbers and options that choose entries; it is called with `choice: Choice`."""

    @functools.wraps(command)
    def with_choice(
        *args: Any,
        entries: tuple[int, ...],
        entry: int | None,
        trace: int | None,
        domain: str | None,
        sender: str | None,
        older_than: int | None,
        newer_than: int | None,
        error: str | None,
        state: str | None,
        **kwargs: Any,
    ) -> Any:
        from waypost.message.trace import TraceId
        from waypost.storage import EntryState, Filter

        which = Filter(
            entry=entry,
            entries=tuple(dict.fromkeys(entries)),
            trace=None if trace is None else TraceId(trace),
            domain=domain,
            sender=sender,
            older_than=older_than,
            newer_than=newer_than,
            error=error,
            state=None if state is None else EntryState(state),
        )
        return command(*args, choice=Choice(which, which != Filter()), **kwargs)

    decorated: Any = with_choice
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # the same command with more options
