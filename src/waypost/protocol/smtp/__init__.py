"""SMTP and LMTP, both sides, sans-IO (RFC 5321, RFC 2033 and their extensions).

The server: `server.py` is what an owner sees, `commands.py` the table of commands and the EHLO lines, `parameters.py`
the parameters of MAIL and RCPT, `replies.py` every reply, `events.py` what the owner is asked. The client:
`client.py`, with `capabilities.py` (what a server offers) and `transaction.py` (what MAIL and RCPT say to it).
"""
