"""Submission: mail from people and programs that log in (the MSA of RFC 5598 and RFC 6409)."""

from waypost.submission.policy import SubmissionPolicy

__all__ = ["SubmissionPolicy"]
