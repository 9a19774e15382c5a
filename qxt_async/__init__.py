"""An asyncio-native client for the QXT (企信通) SMS gateway: no text sent twice, none lost silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:  # the public names, as type checkers read them
    from qxt_async.client import QxtClient as QxtClient
    from qxt_async.errors import AccountRefusedError as AccountRefusedError
    from qxt_async.errors import AuthenticationError as AuthenticationError
    from qxt_async.errors import BulkFailedError as BulkFailedError
    from qxt_async.errors import BulkStoppedError as BulkStoppedError
    from qxt_async.errors import CampaignError as CampaignError
    from qxt_async.errors import CampaignNotFoundError as CampaignNotFoundError
    from qxt_async.errors import CampaignStateError as CampaignStateError
    from qxt_async.errors import ClientStateError as ClientStateError
    from qxt_async.errors import ConfirmationRequiredError as ConfirmationRequiredError
    from qxt_async.errors import ConnectionBrokenError as ConnectionBrokenError
    from qxt_async.errors import DeadlineExceededError as DeadlineExceededError
    from qxt_async.errors import DeliveryTimeoutError as DeliveryTimeoutError
    from qxt_async.errors import IdempotencyKeyReusedError as IdempotencyKeyReusedError
    from qxt_async.errors import InsufficientBalanceError as InsufficientBalanceError
    from qxt_async.errors import InvalidConfigurationError as InvalidConfigurationError
    from qxt_async.errors import InvalidExtnoError as InvalidExtnoError
    from qxt_async.errors import InvalidNumberError as InvalidNumberError
    from qxt_async.errors import InvalidRequestError as InvalidRequestError
    from qxt_async.errors import InvalidTextError as InvalidTextError
    from qxt_async.errors import JournalBusyError as JournalBusyError
    from qxt_async.errors import JournalClosedError as JournalClosedError
    from qxt_async.errors import JournalError as JournalError
    from qxt_async.errors import JournalSchemaError as JournalSchemaError
    from qxt_async.errors import JournalUnavailableError as JournalUnavailableError
    from qxt_async.errors import NotSentError as NotSentError
    from qxt_async.errors import NoValidNumberError as NoValidNumberError
    from qxt_async.errors import NumberLimitedError as NumberLimitedError
    from qxt_async.errors import OutcomeUnknownError as OutcomeUnknownError
    from qxt_async.errors import PartialAnswerError as PartialAnswerError
    from qxt_async.errors import QxtError as QxtError
    from qxt_async.errors import RefusedError as RefusedError
    from qxt_async.errors import RequestTooLargeError as RequestTooLargeError
    from qxt_async.errors import SendInProgressError as SendInProgressError
    from qxt_async.errors import SourceFileError as SourceFileError
    from qxt_async.errors import SubmitFailedError as SubmitFailedError
    from qxt_async.errors import ThrottledError as ThrottledError
    from qxt_async.errors import UnexpectedStatusError as UnexpectedStatusError
    from qxt_async.errors import UnusableAnswerError as UnusableAnswerError
    from qxt_async.journal.sends import NumberLimit as NumberLimit
    from qxt_async.models import Acceptance as Acceptance
    from qxt_async.models import Balance as Balance
    from qxt_async.models import BatchResult as BatchResult
    from qxt_async.models import BulkResult as BulkResult
    from qxt_async.models import DeliveryState as DeliveryState
    from qxt_async.models import InvalidNumber as InvalidNumber
    from qxt_async.models import Numbers as Numbers
    from qxt_async.models import Progress as Progress
    from qxt_async.models import Reply as Reply
    from qxt_async.models import SentBatch as SentBatch
    from qxt_async.models import StatusReport as StatusReport
    from qxt_async.sending.bulk import BulkStream as BulkStream
    from qxt_async.sending.retry import NO_RETRIES as NO_RETRIES
    from qxt_async.sending.retry import RetryPolicy as RetryPolicy

__version__ = "0.1.0"

# The same names at run time. A module is imported when one of its names is first used: who needs only an error does not
# wait for the client.
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "client": "QxtClient",
        "errors": """
            AccountRefusedError AuthenticationError BulkFailedError BulkStoppedError CampaignError CampaignNotFoundError
            CampaignStateError ClientStateError ConfirmationRequiredError ConnectionBrokenError DeadlineExceededError
            DeliveryTimeoutError IdempotencyKeyReusedError InsufficientBalanceError InvalidConfigurationError
            InvalidExtnoError InvalidNumberError InvalidRequestError InvalidTextError JournalBusyError
            JournalClosedError JournalError JournalSchemaError JournalUnavailableError NoValidNumberError NotSentError
            NumberLimitedError OutcomeUnknownError PartialAnswerError QxtError RefusedError RequestTooLargeError
            SendInProgressError SourceFileError SubmitFailedError ThrottledError UnexpectedStatusError
            UnusableAnswerError
        """,
        "journal.sends": "NumberLimit",
        "models": """
            Acceptance Balance BatchResult BulkResult DeliveryState InvalidNumber Numbers Progress Reply
            SentBatch StatusReport
        """,
        "sending.bulk": "BulkStream",
        "sending.retry": "NO_RETRIES RetryPolicy",
    },
)
