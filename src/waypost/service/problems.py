"""What keeps the service from starting or reloading: problems of the operator or the machine, all of them at once."""

from collections.abc import Sequence


class SetupProblem(Exception):
    """The service can't be set up; `problems` has a line for each reason, with what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems: Sequence[str] = problems
