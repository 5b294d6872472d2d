"""SMTP replies as values: code, enhanced status code and text together (RFC 5321 4.2, RFC 3463, RFC 5248).

Every reply that Waypost gives stands in `protocol/smtp/replies.py`; nobody formats a code elsewhere. The value is
defined in `message/reply.py`, since reports and the journal hold replies, too.
"""

from waypost.message.reply import Reply

__all__ = ["Reply", "reply"]


def reply(code: int, enhanced: str | None, *lines: str) -> Reply:
    """Return a reply; a shorthand that reads like the wire: `reply(550, "5.1.1", "No such user here")`."""
    return Reply(code, enhanced, lines)
