"""The examples at the end of each command's help."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_EXAMPLES = {
    "balance": ("qxt balance --json",),
    "bulk": ("qxt bulk numbers.txt --text '【Acme】Open till nine.' --failed-to failed.txt",),
    "campaign": (
        "qxt campaign plan customers.csv --text '【Acme】Dear {name}, …'",
        "qxt campaign run 1",
        "qxt campaign report 1",
    ),
    "campaign cancel": ("qxt campaign cancel 1 --reason 'wrong text'",),
    "campaign export": ("qxt campaign export 1 --csv numbers.csv",),
    "campaign list": ("qxt campaign list",),
    "campaign pause": ("qxt campaign pause 1 --reason 'wrong text'",),
    "campaign plan": (
        "qxt campaign plan numbers.txt --text '【Acme】Open till nine. 拒收请回复R'",
        "qxt campaign plan customers.xlsx --column phone --text '【Acme】Dear {name}, …'",
    ),
    "campaign report": ("qxt campaign report 1 --lang zh -o report.html",),
    "campaign resume": ("qxt campaign resume 1",),
    "campaign run": (
        "qxt campaign run 1 --window 08:00-21:00 --min-balance 10000",
        "qxt campaign run 1 --test 13800138000 --pause-after-test",
    ),
    "campaign status": ("qxt campaign status 1 --watch",),
    "check": ("qxt check numbers.txt --text '【Acme】Open till nine. 拒收请回复R'",),
    "receive": (
        "qxt receive --new-secret",
        "QXT_PUSH_PATH=SECRET qxt receive --port 8081 --journal qxt.db",
    ),
    "replies": ("qxt replies --since 2h --follow",),
    "reports": ("qxt reports --state failed --since 2h --csv",),
    "send": (
        "qxt send 13800138000 --text '【Acme】Your code is 482913.'",
        "qxt send 13800138000 13800138001 --text-file text.txt --json",
        "qxt send 13800138000 --text '【Acme】Your code is 482913.' --key login-7f3a",
    ),
    "sends": ("qxt sends list --state unknown", "qxt sends show login-7f3a"),
    "sends list": ("qxt sends list --since 2h --csv",),
    "sends show": ("qxt sends show login-7f3a --json",),
    "simulate": (
        "qxt simulate --port 8080 --push-to http://127.0.0.1:8081/SECRET",
        "qxt simulate --port 8080 --fault take-then-reset=0.02",
    ),
    "suppressed": ("qxt suppressed list",),
    "suppressed add": ("qxt suppressed add 13800138000 --note 'called us'",),
    "suppressed export": ("qxt suppressed export > suppressed.csv",),
    "suppressed import": ("qxt suppressed import suppressed.csv",),
    "suppressed list": ("qxt suppressed list --json",),
    "suppressed remove": ("qxt suppressed remove 13800138000",),
    "worker": ("qxt worker --journal postgresql://qxt@database/qxt --account-rate 5000",),
}


def add_examples(command: click.Command, path: str) -> None:
    """Let the help of a command end with examples, and the help of the commands of a group. `path` is what is typed."""
    lines = "".join(f"\n  {example}" for example in _EXAMPLES[path])
    # \b: click keeps these lines as they are.
    command.epilog = f"\b\nExamples:{lines}"
    for name, one in getattr(command, "commands", {}).items():
        add_examples(one, f"{path} {name}")
