"""The way to the engine behind the interfaces: `opening.py` opens its storage for a process that works with it,
`upkeep.py` has what is done to its data while nobody needs to work: checks, repairs, backups.

Nobody else outside of an engine's own folder names it; an import rule and `tests/storage/test_interfaces.py` see to it.
"""
