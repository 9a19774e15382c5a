"""The command line, ``qxt``: the library for people and scripts. Needs the extra ``cli``.

Every command is a module of its own, loaded when it is called: none pays for another's imports.

Exit codes:

====  =================================================================================================================
0     everything was accepted (or, where nothing is sent, all is well)
1     something failed: refused, or it provably never left; a number given to ``qxt send`` was invalid; or the gateway
      could not be asked
2     wrong usage or bad input: an option, a file, a text, no valid number
3     what became of something is unknown; wins over 1 and 2
130   stopped by Ctrl-C (SIGINT), 143 by SIGTERM; the tally says how far it came, unknown numbers included
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
