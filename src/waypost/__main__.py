"""`python -m waypost`: the same program as the command `waypost`."""

from waypost.cli import main

main()
