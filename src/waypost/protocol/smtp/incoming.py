"""Message content on its way into a server session: DATA (RFC 5321 4.1.1.4), BDAT (RFC 3030), and AUTH's answers.

The session reads each of them in its own state, in which the input is not commands.  # hot: bench/accept
"""

import base64
import binascii

from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.dialogue import Dialogue, State
from waypost.protocol.smtp.events import AuthCancelled, AuthResponse, MessageChunk, MessageEnded, MessageRefused

_MAX_AUTH_LINE = 12288  # octets, RFC 4954 section 4


def read_content(session: Dialogue) -> bool:
    """Read octets of DATA; False when more input is needed."""
    content = session.content
    assert content is not None
    if session.position == len(session.buffer):
        return False
    data = session.buffer[session.position :] if session.position else session.buffer
    session.drop_input()
    piece, rest = content.feed(data)
    _judge(session, content.size, content.clean)
    if piece and session.refusal is None:
        session.events.append(MessageChunk(piece))
    if rest is not None:
        session.buffer = rest
        _content_ended(session, content.size)
    return rest is not None or bool(piece)


def read_chunk(session: Dialogue) -> bool:
    """Read octets of a BDAT; False when more input is needed."""
    chunks = session.chunks
    assert chunks is not None
    data = session.buffer[session.position : session.position + chunks.left]
    session.position += len(data)
    if session.position == len(session.buffer):
        session.drop_input()
    if not data and chunks.left:
        return False
    piece = chunks.feed(data)
    if session.last_chunk and not chunks.left:
        chunks.end()
    _judge(session, chunks.size, chunks.clean)
    if piece and session.refusal is None:
        session.events.append(MessageChunk(piece))
    if chunks.left:
        return True
    if session.last_chunk:
        _content_ended(session, chunks.size)
    elif session.refusal is not None:
        # The client may stop here: the transaction is over (RFC 3030 section 2).
        session.error(session.refusal)
        session.end_transaction()
    else:
        session.say(Reply(250, "2.0.0", (f"{chunks.size} octets so far",)))
        session.state = State.BDAT
        if not data:  # a chunk of no octets
            session.count_junk()
    return True


def discard(session: Dialogue) -> bool:
    """Drop octets of a refused chunk; False when more input is needed."""
    taken = min(len(session.buffer) - session.position, session.discarding)
    session.position += taken
    session.discarding -= taken
    return session.discarding == 0


def _judge(session: Dialogue, size: int, clean: bool) -> None:
    """Refuse the content once if it breaks a rule; the rest of it is read and dropped."""
    if session.refusal is not None:
        return
    if size > session.options.max_message_size:
        session.refusal = replies.too_large(session.options.max_message_size)
        session.events.append(MessageRefused("larger than the limit"))
    elif not clean:
        session.refusal = replies.CONTENT_BARE_LINE_END
        session.events.append(MessageRefused("a bare CR, bare LF or NUL"))


def _content_ended(session: Dialogue, size: int) -> None:
    if session.refusal is not None:
        session.error(session.refusal)
        if session.options.lmtp and session.envelope is not None:
            for _ in session.envelope.recipients[1:]:
                session.say(session.refusal)
        session.end_transaction()
        return

    def answered(reply: Reply) -> None:
        if reply.positive:
            session.say(reply)
            session.errors = 0  # a client that brings mail may name a wrong recipient in each message
            session.got_somewhere()
        else:
            session.error(reply)
        session.end_transaction()

    session.ask(MessageEnded(size), answered)


def read_auth(session: Dialogue) -> bool:
    """Read the client's answer to a challenge (RFC 4954 section 4); False when it is not whole yet."""
    line = session.line(_MAX_AUTH_LINE)
    if line is None:
        return False
    data = decode_base64(line) if line != b"*" else None
    if data is None:
        session.state = State.READY
        session.events.append(AuthCancelled())
        session.error(replies.AUTH_CANCELLED if line == b"*" else replies.AUTH_BASE64)
        return True
    session.ask(AuthResponse(data), lambda reply: auth_answered(session, reply))
    return True


def auth_answered(session: Dialogue, reply: Reply) -> None:
    """Take the owner's final answer to a login."""
    session.state = State.READY
    if reply.positive:
        session.auth_done = True
        session.got_somewhere()
        session.say(reply)
    else:
        session.error(reply)


def decode_base64(text: bytes) -> bytes | None:
    """Return the decoded octets; None when the text is not base64 (RFC 4954 section 4)."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
