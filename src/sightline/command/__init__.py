"""What every program goes through: composition, short errors, exit codes, signals, verbs. Never imports torch."""

from sightline.command.arguments import Arguments, read_arguments, read_overrides
from sightline.command.composition import compose
from sightline.command.help import help_text
from sightline.command.hints import hint_for_key, hint_for_option
from sightline.command.messages import exit_code, explain
from sightline.command.program import NOT_SAID, invocation, main, print_metrics, run, task
from sightline.command.resumption import with_overrides_of_run, with_settings_of_run
from sightline.command.verbs import Verbs, do_verb, run_verbs
from sightline.runs.file_names import to_text
from sightline.runs.invocation import Invocation

__all__ = [
    "NOT_SAID",
    "Arguments",
    "Invocation",
    "Verbs",
    "compose",
    "do_verb",
    "exit_code",
    "explain",
    "help_text",
    "hint_for_key",
    "hint_for_option",
    "invocation",
    "main",
    "print_metrics",
    "read_arguments",
    "read_overrides",
    "run",
    "run_verbs",
    "task",
    "to_text",
    "with_overrides_of_run",
    "with_settings_of_run",
]
