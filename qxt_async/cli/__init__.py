"""The command line, ``qxt``: the library for people and scripts. Needs the extra ``cli``.

A command's module is imported when the command is called, so that no command pays for the imports of another.

Exit codes (`qxt_async.cli.exit_codes` has the code):

====  =================================================================================================================
0     everything was accepted (or, where nothing is sent, the command succeeded)
1     something failed: it was refused, or it provably was not sent; a number given to ``qxt send`` was invalid; or the
      gateway could not be asked
2     wrong usage or bad input: an option, a file, a text, no valid number
3     the outcome of something is unknown; more important than 1 and 2
130   stopped by Ctrl-C (SIGINT), 143 by SIGTERM; the results are printed, unknown numbers included
====  =================================================================================================================
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``qxt`` with the arguments of this process, and exit with its code."""
    try:
        from qxt_async.cli.program import qxt
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        from qxt_async.runtime.words import missing_extra

        sys.exit(missing_extra("cli", "the command qxt"))
    qxt(prog_name="qxt")
