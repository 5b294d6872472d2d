"""The configuration that `waypost init` writes: only the necessary keys, each with a comment."""

from waypost.config.listener_protocols import ListenerProtocol
from waypost.config.toml_text import value_text

_TEMPLATE = """\
# Waypost. Every setting with its default is in docs/configuration.md; after a change: waypost check.

# The full name of this host. Its address should lead back to it (PTR).
hostname = {hostname}

# Domains whose mailboxes are here.
domains = {domains}

# Messages, mailboxes and accounts. Relative to this file.
data = "data"

# What this host listens on. "0.0.0.0" is every IPv4 address; for IPv6, take the "#" away below.

[[listener]]
protocol = "smtp"             # mail from other servers
address = "0.0.0.0:25"

[[listener]]
protocol = "submission"       # mail from your users: STARTTLS, then a login
address = "0.0.0.0:587"

[[listener]]
protocol = "submissions"      # the same, with TLS from the first byte
address = "0.0.0.0:465"

[[listener]]
protocol = "pop3"             # mailboxes: STLS, then a login
address = "0.0.0.0:110"

[[listener]]
protocol = "pop3s"            # the same, with TLS from the first byte
address = "0.0.0.0:995"

{ipv6}
# Self-signed at first, which is enough for other servers. Mail programs want one from an authority that they know.
[tls]
certificate = "tls/cert.pem"
key = "tls/key.pem"
second_certificate = "tls/rsa-cert.pem"  # for mail servers that know RSA only
second_key = "tls/rsa-key.pem"
"""

_WRITTEN = (
    ListenerProtocol.SMTP,
    ListenerProtocol.SUBMISSION,
    ListenerProtocol.SUBMISSIONS,
    ListenerProtocol.POP3,
    ListenerProtocol.POP3S,
)


def configuration(*, hostname: str, domains: tuple[str, ...]) -> str:
    """Return the text of a `waypost.toml` for a host and the domains that it hosts."""
    ipv6 = "".join(f'# [[listener]]\n# protocol = "{each}"\n# address = "[::]:{each.port}"\n\n' for each in _WRITTEN)
    return _TEMPLATE.format(hostname=value_text(hostname), domains=value_text(list(domains)), ipv6=ipv6.rstrip() + "\n")
