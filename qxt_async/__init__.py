"""An asyncio-native client for the QXT (企信通) SMS gateway: no text sent twice, none lost silently."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bulk import BulkOptions, BulkStream
    from .client import QxtClient
    from .errors import (
        AccountRefusedError,
        AddressRefusedError,
        AuthenticationError,
        BulkFailedError,
        CallbackFailedError,
        CancelledInFlightError,
        ConnectionBrokenError,
        DeadlineExceededError,
        EmptyUserError,
        ExtnoRefusedError,
        ForbiddenError,
        ForeignAnswerError,
        InsufficientBalanceError,
        InvalidConfigurationError,
        InvalidExtnoError,
        InvalidNumberError,
        InvalidRequestError,
        InvalidTextError,
        NoNumbersRefusedError,
        NoTextRefusedError,
        NotSentError,
        NoValidNumberError,
        NumberCountRefusedError,
        OutcomeUnknownError,
        PartialAnswerError,
        QxtError,
        RefusedError,
        RequestTooLargeError,
        SourceFailedError,
        SourceFileError,
        SubmitFailedError,
        ThrottledError,
        TooFewNumbersRefusedError,
        TooManyNumbersError,
        UnexpectedStatusError,
        UnknownRefusalError,
        UnknownUserError,
        UnreadableAnswerError,
        UrlTooLongError,
        WrongPasswordError,
    )
    from .models import (
        Balance,
        BatchResult,
        BulkResult,
        DeliveryState,
        InvalidNumber,
        Message,
        Numbers,
        Progress,
        Receipt,
        Reply,
        StatusReport,
    )
    from .retrying import NO_RETRIES, RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "NO_RETRIES",
    "AccountRefusedError",
    "AddressRefusedError",
    "AuthenticationError",
    "Balance",
    "BatchResult",
    "BulkFailedError",
    "BulkOptions",
    "BulkResult",
    "BulkStream",
    "CallbackFailedError",
    "CancelledInFlightError",
    "ConnectionBrokenError",
    "DeadlineExceededError",
    "DeliveryState",
    "EmptyUserError",
    "ExtnoRefusedError",
    "ForbiddenError",
    "ForeignAnswerError",
    "InsufficientBalanceError",
    "InvalidConfigurationError",
    "InvalidExtnoError",
    "InvalidNumber",
    "InvalidNumberError",
    "InvalidRequestError",
    "InvalidTextError",
    "Message",
    "NoNumbersRefusedError",
    "NoTextRefusedError",
    "NoValidNumberError",
    "NotSentError",
    "NumberCountRefusedError",
    "Numbers",
    "OutcomeUnknownError",
    "PartialAnswerError",
    "Progress",
    "QxtClient",
    "QxtError",
    "Receipt",
    "RefusedError",
    "Reply",
    "RequestTooLargeError",
    "RetryPolicy",
    "SourceFailedError",
    "SourceFileError",
    "StatusReport",
    "SubmitFailedError",
    "ThrottledError",
    "TooFewNumbersRefusedError",
    "TooManyNumbersError",
    "UnexpectedStatusError",
    "UnknownRefusalError",
    "UnknownUserError",
    "UnreadableAnswerError",
    "UrlTooLongError",
    "WrongPasswordError",
    "__version__",
]

# Loaded when they are asked for: who needs an error or `qxt --help` does not pay for the client.
_HOMES = {
    "bulk": {"BulkOptions", "BulkStream"},
    "client": {"QxtClient"},
    "models": {
        "Balance",
        "BatchResult",
        "BulkResult",
        "DeliveryState",
        "InvalidNumber",
        "Message",
        "Numbers",
        "Progress",
        "Receipt",
        "Reply",
        "StatusReport",
    },
    "retrying": {"NO_RETRIES", "RetryPolicy"},
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
