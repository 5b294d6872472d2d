"""Delivery: the MDA of RFC 5598. Where an address of ours leads (`resolve.py`), what one commit writes for it
(`plan.py`), and the carrier of what ends in mailboxes here (`local.py`).
"""
