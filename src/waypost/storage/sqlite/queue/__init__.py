"""The queue of the embedded engine: entries, destinations and their leases."""
