"""Files, folders and their owners on the disk of one machine.

The embedded storage and the service use this room for their folders. It knows nothing of messages, the queue and
mailboxes.
"""
