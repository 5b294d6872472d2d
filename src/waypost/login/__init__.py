"""Logins: one place decides them for every protocol (`LoginDesk`); also the stored form of passwords."""
