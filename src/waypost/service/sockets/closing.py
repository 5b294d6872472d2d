"""The end of a connection: how its last words leave."""

import asyncio


def begin_to_close(transport: asyncio.Transport, *, at_once: bool) -> bool:
    """Close when everything is written; True when input must be read, and dropped, until then.

    A plain connection is closed for writing first, unless `at_once`: a socket that is closed with unread input would
    take back our last words (RFC 1122 4.2.2.13).
    """
    if transport.is_closing():  # asyncio's TLS is of no use any more when it is closed twice
        return False
    if at_once:
        transport.close()
        return False
    try:
        transport.write_eof()
    except OSError:  # reset by the peer, which the loop has not told us yet
        transport.abort()
    return True
