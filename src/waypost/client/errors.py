"""What can go wrong for a person at a mail program, in words for that person."""


class ClientError(Exception):
    """Something did not work; the message says what, and whose words they are where a server spoke."""


class Refused(ClientError):
    """The server said no to one command, in the words of the message; the session goes on."""
