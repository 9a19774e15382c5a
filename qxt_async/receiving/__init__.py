"""Receiving what the gateway pushes: the ASGI application, and waiting for the status report on a message."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from qxt_async.receiving.receiver import PushReceiver, new_secret
    from qxt_async.receiving.tracking import DeliveryTracker, ReportFeed

__all__ = ["DeliveryTracker", "PushReceiver", "ReportFeed", "new_secret"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "receiver": ("PushReceiver", "new_secret"),
        "tracking": ("DeliveryTracker", "ReportFeed"),
    },
)
