"""The service: supervisor, workers, listeners, TLS, signals and logging; the only room that opens listening sockets."""
