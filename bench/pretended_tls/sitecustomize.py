"""For one benchmark: SMTP sessions of this process believe that their plain connections are encrypted.

Users log in over TLS alone, and the cost of TLS is not what the variant `submission` is about. Python imports this file
at its start where PYTHONPATH names the folder (`bench/submission.py`); nothing of Waypost knows of it.
"""

from msgspec.structs import replace

from waypost.intake.session import SmtpSession
from waypost.protocol.session import Next, Peer, TlsInfo

_TLS = TlsInfo("TLSv1.3", "TLS_OF_A_BENCHMARK")
_start = SmtpSession.start


async def _start_encrypted(self: SmtpSession, peer: Peer) -> Next:
    return await _start(self, replace(peer, tls=_TLS))


SmtpSession.start = _start_encrypted  # type: ignore[method-assign]
