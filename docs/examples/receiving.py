"""Receives pushes alone.

uvicorn --no-access-log --no-proxy-headers receiving:receiver
"""

import os

from qxt_async.receiving import PushReceiver

receiver = PushReceiver(
    os.environ.get("QXT_JOURNAL", "qxt.db"),
    path_secret=os.environ["QXT_PUSH_PATH"],
    allow=os.environ.get("QXT_PUSH_ALLOW", "127.0.0.1").split(","),
    trusted_proxies=["127.0.0.1"],
)
