"""What `waypost status` reports, by severity: decisions over observed facts, for people and for monitors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waypost.counting import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waypost.config.settings import Settings

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Severities, and the exit statuses that monitors expect for them."""
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

SOON = 14
"""Days before a certificate's end from which on it is reported."""
_LITTLE = 0.1  # share of the disk
_VERY_LITTLE = 128 << 20  # octets; new mail is refused at 64 MiB


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention. `shown`: the other lines of `status` show it already."""

    severity: int
    words: str
    shown: bool = False


def concerns_of(found: dict[str, Any], settings: Settings, now: int) -> list[Concern]:
    """Return what needs attention, the worst first. `found` is the value that `waypost status --json` prints; `now` is
    in microseconds."""
    concerns = [*_service(found), *_certificate(found["certificate"]), *_disk(found["disk"])]
    concerns += [*_segments(found["missing_segments"]), *_queue(found["queue"], settings, now)]
    return sorted(concerns, key=lambda concern: -concern.severity)


def _service(found: dict[str, Any]) -> Iterator[Concern]:
    service = found["service"]
    if service is None:
        yield Concern(CRITICAL, "the service does not run", shown=True)
        return
    if not service.get("workers"):
        yield Concern(CRITICAL, "no worker is ready: the log says why")
    failed = service.get("failed_reload")
    if failed:
        yield Concern(WARNING, f"the reload at {failed['at']} failed: {'; '.join(map(str, failed['problems']))}")
    elif found["configuration_changed"]:
        since = service["configuration"]["since"]
        yield Concern(
            WARNING,
            f"the configuration file has changed since {since}, when it was loaded: waypost check, waypost reload",
        )


def _certificate(certificate: dict[str, Any] | None) -> Iterator[Concern]:
    if certificate is None:
        return
    days = certificate.get("days")
    if days is not None and days < 0:
        yield Concern(CRITICAL, f"the certificate expired at {certificate['expires']}", shown=True)
    elif "begins" in certificate:
        words = f"the certificate is valid only from {certificate['begins']} on; is the clock right?"
        yield Concern(CRITICAL, words, shown=True)
    elif days is not None and days < SOON:
        yield Concern(WARNING, f"the certificate ends in {counted(days, 'day')}", shown=True)
    if "problem" in certificate:
        words = f"{certificate['path']}: {certificate['problem']}; the next reload or start would fail"
        yield Concern(WARNING, words, shown=days is None)
    elif certificate.get("stale"):
        yield Concern(WARNING, f"{certificate['path']} holds another certificate than is served: waypost reload")


def _disk(disk: dict[str, int]) -> Iterator[Concern]:
    from waypost.config.sizes import rounded_size

    words = f"{rounded_size(disk['free'])} are free on the disk"
    if disk["free"] < min(_VERY_LITTLE, disk["total"] // 10):
        yield Concern(CRITICAL, f"only {words}: new mail is refused, or soon will be", shown=True)
    elif disk["free"] < disk["total"] * _LITTLE:
        yield Concern(WARNING, f"only {words}", shown=True)


def _segments(missing: list[str]) -> Iterator[Concern]:
    if missing:
        files = f"{missing[0]} is" if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more are"
        words = f"messages can't be read: in segments/, {files} missing or cut short: waypost storage check"
        yield Concern(CRITICAL, words)


def _queue(queue: dict[str, Any], settings: Settings, now: int) -> Iterator[Concern]:
    oldest = queue.get("oldest")
    longest = settings.queue.delayed_notice or settings.queue.expire // 2
    if oldest is None:
        return
    age = now - int(datetime.fromisoformat(oldest).timestamp() * 1_000_000)
    if age > longest:
        yield Concern(
            WARNING, f"the oldest entry of the queue has waited for {counted(age // 3_600_000_000, 'hour')}", shown=True
        )
