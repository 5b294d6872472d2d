"""The story of Alice and Bob: five scenes in which messages are delivered, wait, return, and survive.

Everything is done by the commands that a person would type, and printed from the journals of the two hosts.
"""

import asyncio
import json
import re
import smtplib
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from email import message_from_bytes
from typing import Any
from urllib.parse import quote

from waypost.config.settings import Outbound
from waypost.lab.host import Host, LabError
from waypost.lab.narrator import Narrator
from waypost.lab.town import ALICE, BOB, PASSWORDS, Town

BURST = 500
_PATIENCE = 60.0
_ON_THE_WAY = 1 + Outbound().max_connections_per_destination
"""How many replies can be lost at the kill, so that their messages are sent again (RFC 5321 section 4.2.5): one on
Alice's connection, and one on each connection between the hosts."""


class Story:
    """Plays the scenes in a town and prints them."""

    def __init__(self, town: Town, narrator: Narrator, *, burst: int = BURST) -> None:
        self._town = town
        self._tell = narrator
        self._burst = burst
        self.last_trace = ""
        """The id of the message that Alice sent last."""

    async def play(self) -> None:
        """Play every scene. Raises `LabError` when one does not end as it should."""
        await self._the_straight_road()
        await self._bobs_server_is_down()
        await self._nobody_of_that_name()
        await self._a_domain_that_never_answers()
        await self._the_burst()

    async def _the_straight_road(self) -> None:
        self._tell.scene("The straight road", "From Alice's command line to Bob's mailbox, station by station.")
        trace = await self._send(BOB, "Tea at five?", "Dear Bob,\n\ndo come. The Hatter insists.\n\nAlice")
        await self._follow(trace, "relayed")
        await self._read(self._town.builder, BOB)

    async def _bobs_server_is_down(self) -> None:
        self._tell.scene("Bob's server is down", "The message waits in the queue and is retried by the schedule.")
        await self._town.builder.stop()
        self._tell.say("builder.test", "the service is stopped", "bad")
        trace = await self._send(BOB, "Are you there?", "Knock, knock.")
        seen = await self._follow(trace, "attempt")
        self._tell.say("builder.test", "the service is started again", "good")  # it works before `start` returns
        await self._town.builder.start()
        await self._follow(trace, "relayed", seen)
        await self._read(self._town.builder, BOB)

    async def _nobody_of_that_name(self) -> None:
        self._tell.scene("Nobody of that name", "An unknown recipient: Alice is told, in words for people.")
        trace = await self._send("nobody@builder.test", "For whoever reads this", "Hello?")
        await self._follow(trace, "returned")
        await self._read(self._town.wonderland, ALICE)

    async def _a_domain_that_never_answers(self) -> None:
        self._tell.scene(
            "A domain that never answers",
            "First a notice that the message is delayed; when the term ends, it comes back.",
        )
        trace = await self._send("echo@silent.test", "Is anybody home?", "Hello, hello, hello.")
        seen = await self._follow(trace, "delayed")
        await self._read(self._town.wonderland, ALICE, lines=8)
        await self._follow(trace, "returned", seen)
        await self._read(self._town.wonderland, ALICE, lines=8)

    async def _the_burst(self) -> None:
        self._tell.scene(
            "kill -9 in the middle of a burst",
            f"{self._burst} messages, and both hosts killed at once: each arrives; twice if its answer was on the way.",
        )
        town, burst = self._town, _Burst(self._town.wonderland, self._burst)
        half = asyncio.create_task(burst.until(self._burst * 2 // 5))
        sending = asyncio.create_task(burst.send())
        await half
        await asyncio.gather(*(host.kill() for host in town.hosts))
        await sending
        self._tell.say("both hosts", f"kill -9, with {burst.acknowledged} of {self._burst} acknowledged", "bad")
        await asyncio.gather(*(host.start() for host in town.hosts))
        self._tell.say("both hosts", "restarted; Alice's program sends what was never acknowledged", "good")
        await burst.send()
        counts = await self._count_arrivals()
        missing = self._burst - len(counts)
        twice = sum(count > 1 for count in counts.values())
        self._tell.say(
            "builder.test",
            f"{len(counts)} of {self._burst} messages in Bob's mailbox; {missing} missing, {twice} twice",
            "good" if not missing and twice <= _ON_THE_WAY else "bad",
        )
        if missing or twice > _ON_THE_WAY:
            raise LabError(f"the burst did not arrive as it should: {missing} missing, {twice} twice")

    async def _count_arrivals(self) -> dict[str, int]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            stats = await self._town.wonderland.json("queue", "stats")
            messages = await asyncio.to_thread(_read_all, self._town.builder, BOB)
            counts: dict[str, int] = {}
            for message in messages:
                found = re.search(rb"^Subject: (burst \d+)", message, re.MULTILINE)
                if found:
                    subject = found.group(1).decode()
                    counts[subject] = counts.get(subject, 0) + 1
            if (len(counts) >= self._burst and stats["entries"] == 0) or time.monotonic() > deadline:
                return counts
            await asyncio.sleep(0.2)

    async def _send(self, to: str, subject: str, text: str) -> str:
        host = self._town.wonderland
        arguments = ["send", "--from", ALICE, "--to", to, "--subject", subject]
        arguments += ["--via", submission_url(host), "--ca", str(host.certificate), "--json"]
        began = time.time()
        printed = await host.client(*arguments, stdin=text, password=PASSWORDS[ALICE])
        self.last_trace = str(json.loads(printed)["trace"])
        self._tell.say("Alice", f'sends "{subject}" to {to}', "good", trace=self.last_trace, at=began)
        return self.last_trace

    async def _follow(self, trace: str, station: str, seen: int = 0) -> int:
        """Print a message's journal as it is written, from event `seen` on, until the message has reached `station`.

        Returns the number of events in the journal.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            events = (await self._town.wonderland.json("trace", trace))["events"]
            await self._tell_events(trace, events[seen:])
            seen = max(seen, len(events))
            if any(event["station"] == station for event in events):
                return seen
            if time.monotonic() > deadline:
                raise LabError(f"message {trace} was not {station} within {_PATIENCE:.0f} s")
            await asyncio.sleep(0.1)

    async def _tell_events(self, trace: str, events: list[dict[str, Any]]) -> None:
        """Print the events of a message, and after a relay, those of the other host's journal."""
        told = [(self._town.wonderland, trace, event) for event in events]
        for event in events:
            arrived = _trace_in(event) if event["station"] == "relayed" else None
            if arrived is not None:
                found = (await self._town.builder.json("trace", arrived))["events"]
                told += [(self._town.builder, arrived, event) for event in found]
        for host, name, event in sorted(told, key=lambda one: str(one[2]["time"])):
            what, mood = describe(event)
            self._tell.say(host.domain, what, mood, trace=name, at=datetime.fromisoformat(event["time"]).timestamp())

    async def _read(self, host: Host, person: str, *, lines: int = 12) -> None:
        """Read the newest message of a person by POP3, delete it, and show its first lines."""
        await self._wait_for_mail(host, person)
        messages = await asyncio.to_thread(_read_all, host, person, True)
        name = person.partition("@")[0].capitalize()
        message = message_from_bytes(messages[-1])
        self._tell.say(name, f'reads by POP3 over TLS: "{message["Subject"]}" from {message["From"]}', "good")
        part = message
        while part.is_multipart():
            part = part.get_payload(0)  # type: ignore[assignment]
        body = part.get_payload(decode=True)
        if isinstance(body, bytes):
            self._tell.quote(body.decode(errors="replace").strip(), lines=lines)

    async def _wait_for_mail(self, host: Host, person: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not await asyncio.to_thread(_read_all, host, person):
            if time.monotonic() > deadline:
                raise LabError(f"no mail arrived for {person} within {_PATIENCE:.0f} s")
            await asyncio.sleep(0.2)


class _Burst:
    """Alice's program: submits numbered messages on one connection and knows which were acknowledged."""

    def __init__(self, host: Host, count: int) -> None:
        self._host = host
        self._pending = [f"burst {number}" for number in range(count)]
        self._count = count
        self._reached: tuple[int, Callable[[], object]] | None = None

    @property
    def acknowledged(self) -> int:
        """How many messages were answered with 250."""
        return self._count - len(self._pending)

    async def until(self, count: int) -> None:
        """Return when `count` messages were acknowledged."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        self._reached = count, lambda: loop.call_soon_threadsafe(event.set)
        await event.wait()

    async def send(self) -> None:
        """Submit the messages that are not acknowledged yet; end early when the connection breaks."""
        await asyncio.to_thread(self._send)

    def _send(self) -> None:
        try:
            with smtplib.SMTP_SSL(
                self._host.address, self._host.ports.submissions, timeout=30, context=trusting(self._host)
            ) as session:
                session.login(ALICE, PASSWORDS[ALICE])
                for subject in list(self._pending):
                    message_id = f"<{subject.replace(' ', '-')}@wonderland.test>"
                    text = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: {subject}\r\nMessage-ID: {message_id}\r\n"
                    session.sendmail(ALICE, [BOB], (text + "\r\nOne of many.\r\n").encode())
                    self._pending.remove(subject)
                    if self._reached and self.acknowledged >= self._reached[0]:
                        self._reached[1]()
        except (smtplib.SMTPException, OSError):
            return  # the kill: messages without acknowledgement are still pending


def submission_url(host: Host) -> str:
    """Return the URL by which Alice's commands submit."""
    return f"submissions://{quote(ALICE, safe='')}@{host.address}:{host.ports.submissions}"


def trusting(host: Host) -> ssl.SSLContext:
    """Return a TLS context that trusts exactly the host's own certificate."""
    context = ssl.create_default_context(cafile=str(host.certificate))
    context.check_hostname = False  # it names the host, not the loopback address
    return context


def _read_all(host: Host, person: str, delete: bool = False) -> list[bytes]:
    """Read a mailbox by POP3 over TLS, with Python's own client."""
    import poplib

    box = poplib.POP3_SSL(host.address, host.ports.pop3s, timeout=30, context=trusting(host))
    try:
        box.user(person)
        box.pass_(PASSWORDS[person])
        count, _ = box.stat()
        messages = [b"\n".join(box.retr(number)[1]) for number in range(1, count + 1)]
        if delete:
            for number in range(1, count + 1):
                box.dele(number)
        return messages
    finally:
        box.quit()


def _trace_in(event: dict[str, Any]) -> str | None:
    """Return the id that the next host gave a message: it stands in its reply."""
    words = str(event["details"].get("reply") or "").split()
    return next((word for word in reversed(words) if re.fullmatch(r"[0-9a-z]{13}", word)), None)


def describe(event: dict[str, Any]) -> tuple[str, str]:
    """Return a journal event in words, and its mood."""
    details = event["details"]
    recipients = ", ".join(details.get("recipients", []))
    tls = details.get("tls") or "plain text"
    host = " ".join(str(details[key]) for key in ("host", "address") if details.get(key))
    reply = details.get("reply") or details.get("problem") or ""
    match event["station"]:
        case "submitted":
            return (
                f"MSA: {details.get('account', '')} logged in over {tls}; accepted for {recipients}",
                "good",
            )
        case "received":
            return f"MX: taken from {details.get('helo', '')} over {tls} for {recipients}", "good"
        case "queued":
            return f"queue: waits for {details.get('destination', '')}", ""
        case "attempt":
            later = f"; next attempt {details['next_attempt']}" if details.get("next_attempt") else ""
            return f"MTA: {host or 'no server'} ({tls if host else 'not connected'}): {reply}{later}", "wait"
        case "relayed":
            return f"MTA: delivered to {host} over {tls}: {reply}", "good"
        case "delivered":
            return f"MDA: in the mailbox of {details.get('mailbox') or recipients}", "good"
        case "delayed":
            return f"queue: {recipients or 'the recipient'} not reached yet; the sender is told", "wait"
        case "returned":
            return f"queue: given up for {recipients}; returned to the sender: {reply}", "bad"
        case station:
            return f"{station}: {json.dumps(details, ensure_ascii=False)}", ""
