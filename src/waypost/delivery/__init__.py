"""Delivery: the MDA of RFC 5598. `resolve.py` finds where one of our addresses leads, `plan.py` decides what one commit
writes for it, and `local.py` is the carrier of queue entries for mailboxes here.
"""
