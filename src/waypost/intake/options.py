"""The options that SMTP, LMTP and submission sessions offer, from the settings (RFC 5321, RFC 2033, RFC 6409)."""

from waypost.config.listener_protocols import Clients, Encryption, ListenerProtocol
from waypost.config.settings import Settings
from waypost.protocol.smtp.server import ServerOptions

_BEFORE_TLS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def server_options(
    settings: Settings, protocol: ListenerProtocol, *, mechanisms: tuple[str, ...] = _BEFORE_TLS
) -> ServerOptions:
    """Return what a session of this protocol offers. Raises `ValueError` for a protocol that does not accept mail.

    `mechanisms` matter for submission only. Because of them, AUTH before TLS is answered 538 instead of 502. Over TLS
    the login desk replaces them by those that the connection allows.
    """
    login = protocol.clients is Clients.SENDERS
    submission = login or protocol.clients is Clients.DEVICES
    lmtp = protocol.clients is Clients.FRONT_END
    if not submission and not lmtp and protocol.clients is not Clients.MAIL_SERVERS:
        raise ValueError(f"{protocol} does not accept mail")
    limits = settings.limits
    return ServerOptions(
        hostname=settings.hostname,
        lmtp=lmtp,
        dsn=submission,  # strangers get no success reports: docs/decisions/0017
        submission=submission,
        starttls=settings.tls is not None and protocol.encryption is Encryption.ON_REQUEST,
        mechanisms=mechanisms if login else (),
        auth_required=login,
        max_message_size=limits.message_size,
        max_recipients=limits.recipients,
        max_transactions=limits.transactions,
        max_errors=limits.errors,
        max_junk=limits.junk_commands,
        greeting="LMTP" if lmtp else "ESMTP",
    )
