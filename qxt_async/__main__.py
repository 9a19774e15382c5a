"""``python -m qxt_async`` is ``qxt``."""

from __future__ import annotations

from qxt_async.cli import main

if __name__ == "__main__":
    main()
