"""The processes of the service: supervisor and workers, what they may do, and how they speak to each other."""
