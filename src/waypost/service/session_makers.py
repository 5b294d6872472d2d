"""Session makers: for each listener protocol a function that makes its sessions of the parts of one worker.

A row of the table of protocols (`config/listener_protocols.py`) names its function. A row that names none that is here
keeps every worker from starting, whatever is listened on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from waypost.access.pop3 import Pop3Session
from waypost.access.pop3_form import SentForms
from waypost.config.listener_protocols import Encryption, ListenerProtocol
from waypost.config.settings import SECOND, Settings
from waypost.delivery.resolve import AddressBook
from waypost.intake import Acceptance, Policy, SmtpSession, TransactionTasks, server_options
from waypost.intake.memory import ArrivingMemory
from waypost.login.desk import LoginDesk
from waypost.message.trace import Micros
from waypost.protocol.session import Session
from waypost.reception import ReceptionPolicy, ReverseNames
from waypost.storage import Directory, Storage, Watchers
from waypost.submission import NamedSenders, SubmissionPolicy, TrustedDevices, TrustedPolicy

Make = Callable[[], Session]
"""Makes the session of one connection."""


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What the sessions of a worker share. `mailboxes_changed` tells sessions of notices about a mailbox (its id),
    `tasks` run while messages arrive.
    """

    settings: Settings
    now: Callable[[], Micros]
    storage: Storage
    book: AddressBook
    acceptance: Acceptance
    arriving: ArrivingMemory
    tasks: TransactionTasks
    reverse_names: ReverseNames
    desk: LoginDesk
    forms: SentForms
    mailboxes_changed: Watchers

    def makers(self) -> Mapping[ListenerProtocol, Make]:
        """Return what makes the sessions of each protocol."""
        return {protocol: make(self, protocol) for protocol, make in _MAKERS.items()}


def reception(parts: SessionParts, protocol: ListenerProtocol) -> Make:
    """Mail from other servers."""
    settings = parts.settings
    policy = ReceptionPolicy(
        book=parts.book,
        names=(settings.hostname.lower(), *settings.domains),
        tasks=parts.tasks,
        reverse_names=parts.reverse_names,
    )
    return _takes_mail(parts, protocol, policy, greeting_delay=settings.reception.greeting_delay / SECOND)


def local_mail(parts: SessionParts, protocol: ListenerProtocol) -> Make:
    """Mail from a server in front of this one."""
    return _takes_mail(parts, protocol, ReceptionPolicy(book=parts.book, tasks=parts.tasks))


def submission(parts: SessionParts, protocol: ListenerProtocol) -> Make:
    """Mail from people, who log in."""
    settings = parts.settings
    policy = SubmissionPolicy(
        book=parts.book,
        directory=parts.storage.directory,
        settings=settings.submission,
        hostname=settings.hostname,
        domains=settings.domains,
    )
    return _takes_mail(parts, protocol, policy, parts.desk)


def devices(parts: SessionParts, protocol: ListenerProtocol) -> Make:
    """Mail from devices that can't log in."""
    policy = trusted_policy(parts.settings, parts.book, parts.storage.directory)
    return _takes_mail(parts, protocol, policy, refuses=policy.refuse)


def pop3(parts: SessionParts, protocol: ListenerProtocol) -> Make:
    """Mailboxes, read by POP3."""
    settings = parts.settings
    return partial(
        Pop3Session,
        desk=parts.desk,
        mailboxes=parts.storage.mailboxes,
        now=parts.now,
        hostname=settings.hostname,
        starttls=settings.tls is not None and protocol.encryption is Encryption.ON_REQUEST,
        forms=parts.forms,
        max_junk=settings.limits.junk_commands,
        login_time=settings.limits.login_time / SECOND,
    )


def trusted_policy(settings: Settings, book: AddressBook, directory: Directory) -> TrustedPolicy:
    """What devices without a login may send, for each table of networks."""
    tables = []
    for network in settings.trusted_networks:
        senders = NamedSenders(network.senders)
        policy = SubmissionPolicy(
            book=book,
            directory=directory,
            settings=settings.submission,
            hostname=settings.hostname,
            domains=settings.domains,
            senders=senders,
        )
        tables.append(TrustedDevices(network, senders, policy))
    return TrustedPolicy(tables, directory)


def _takes_mail(
    parts: SessionParts, protocol: ListenerProtocol, policy: Policy, desk: LoginDesk | None = None, **more: Any
) -> Make:
    """Sessions that take mail, by a policy; all share one acceptance and one memory for what arrives."""
    return partial(
        SmtpSession,
        options=server_options(parts.settings, protocol),
        policy=policy,
        acceptance=parts.acceptance,
        desk=desk,
        spool=parts.storage.spool,
        now=parts.now,
        limits=parts.settings.limits,
        memory=parts.arriving,
        **more,
    )


_BY_NAME = {make.__name__: make for make in (reception, local_mail, submission, devices, pop3)}
_MAKERS = {protocol: _BY_NAME[protocol.sessions] for protocol in ListenerProtocol}
