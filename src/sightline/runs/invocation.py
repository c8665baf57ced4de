"""What a process was told by whoever started it: read in `command`, and handed to the task as an argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sightline.runs.guesses import Guess

COMMIT = "SIGHTLINE_COMMIT"
"""The environment variable that names the commit of code outside a checkout, as in an image."""
SERVE_TOKEN = "SIGHTLINE_SERVE_TOKEN"
"""The environment variable with the token that a server asks for, and that a client of one shows."""
JOB = "hydra.mode=RUN"
"""What a job is told where it runs: its overrides have been understood where they were typed."""
RANK_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_PORT")
RANK_VARIABLES = (*RANK_NUMBERS, "MASTER_ADDR", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT")
"""The usual variables of distributed training: torchrun sets all, a scheduler of several nodes some of them."""


@dataclass(frozen=True)
class Invocation:
    """The command line and the environment of a process; nothing of them in a notebook."""

    argv: tuple[str, ...] = ()
    """The command line as it was typed, the program first."""
    overrides: tuple[str, ...] = ()
    """The overrides of this run; of several runs, its own."""
    commit: str | None = None
    """The value of `SIGHTLINE_COMMIT`."""
    ranks: Mapping[str, str] = field(default_factory=dict)
    """The values of `RANK_VARIABLES` that are set."""
    guesses: tuple[Guess, ...] = ()
    """What was understood that was not typed."""
    choices: Mapping[str, str | None] = field(default_factory=dict)
    """The file of `configs/` that each group is composed of, of a program with verbs."""
    serve_token: str | None = field(default=None, repr=False)
    """The value of `SIGHTLINE_SERVE_TOKEN`; never written anywhere."""

    @property
    def is_job(self) -> bool:
        """Whether it is a job, whose overrides were typed elsewhere."""
        return JOB in self.argv


UNTOLD = Invocation()
