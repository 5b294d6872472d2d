"""Files, folders and their owners on the disk of one machine: what everybody needs who touches it.

The embedded storage and the service's own folders stand on it. Messages, the queue and mailboxes are above.
"""
