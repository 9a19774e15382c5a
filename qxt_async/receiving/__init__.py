"""Receiving what the gateway pushes: the ASGI application, and waiting for the status report on a message."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:  # the public names, as type checkers read them
    from qxt_async.receiving.receiver import PushReceiver as PushReceiver
    from qxt_async.receiving.receiver import new_secret as new_secret
    from qxt_async.receiving.tracking import DeliveryTracker as DeliveryTracker
    from qxt_async.receiving.tracking import ReportFeed as ReportFeed

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {"receiver": "PushReceiver new_secret", "tracking": "DeliveryTracker ReportFeed"},
)
