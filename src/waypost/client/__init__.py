"""The mail program: composes, submits, and reads a mailbox by POP3. It uses neither storage nor configuration."""
