"""Submission: mail from people and programs that log in, and from devices that can't (the MSA of RFC 6409)."""

from waypost.submission.policy import SubmissionPolicy
from waypost.submission.trusted import NamedSenders, TrustedDevices, TrustedPolicy

__all__ = ["NamedSenders", "SubmissionPolicy", "TrustedDevices", "TrustedPolicy"]
