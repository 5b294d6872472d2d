"""Logins: who may, decided in one place for every protocol (`LoginDesk`), and what is kept of a password."""
