"""The lab: a small internet of mail on loopback addresses, which shows every station of a message's way."""
