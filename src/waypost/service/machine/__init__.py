"""What the service needs of its machine: addresses, routes, files of the operator, logging."""
