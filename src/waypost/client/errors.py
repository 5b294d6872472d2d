"""The errors of the mail program, with messages for the person who uses it."""


class ClientError(Exception):
    """Something failed; the message says what, and quotes the server where the server said so."""


class RefusedByServer(ClientError):
    """The server refused one command; the message quotes it. The session goes on."""
