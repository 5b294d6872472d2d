"""The mail program: composing, submitting, and reading a mailbox by POP3. It knows no storage and no configuration."""
