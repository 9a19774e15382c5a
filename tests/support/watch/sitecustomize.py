"""Python loads this in every process that a test starts: what is logged and raised there is looked at, too."""

import os
from contextlib import suppress
from pathlib import Path

if _name := os.environ.get("QXT_CANARIES"):
    _path = Path(_name)
    with suppress(ImportError):  # an environment without the package
        from watching import Watch

        from qxt_async import errors

        def _tell(found: str) -> None:
            with _path.open("a", encoding="utf-8") as file:
                file.write(f"process {os.getpid()}: {found!r}\n")

        _watch = Watch(_tell)
        _watch.start()
        _watch.look_at_what_is_made([errors])
