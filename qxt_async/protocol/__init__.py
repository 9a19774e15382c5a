"""The gateway's language, without I/O: numbers, texts, requests, answers, pushes."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:  # the public names, as type checkers read them
    from qxt_async.models import mask as mask
    from qxt_async.protocol.answers import Answer as Answer
    from qxt_async.protocol.answers import parse_balance as parse_balance
    from qxt_async.protocol.answers import parse_send as parse_send
    from qxt_async.protocol.numbers import MOBILE_PATTERN as MOBILE_PATTERN
    from qxt_async.protocol.numbers import Deduplicator as Deduplicator
    from qxt_async.protocol.numbers import NumberFilter as NumberFilter
    from qxt_async.protocol.numbers import canonical as canonical
    from qxt_async.protocol.numbers import deduplicate as deduplicate
    from qxt_async.protocol.numbers import normalize as normalize
    from qxt_async.protocol.pushes import OptOut as OptOut
    from qxt_async.protocol.pushes import Push as Push
    from qxt_async.protocol.pushes import PushFlag as PushFlag
    from qxt_async.protocol.pushes import PushLimits as PushLimits
    from qxt_async.protocol.pushes import parse_push as parse_push
    from qxt_async.protocol.requests import MAX_NUMBERS as MAX_NUMBERS
    from qxt_async.protocol.requests import Credentials as Credentials
    from qxt_async.protocol.requests import balance_form as balance_form
    from qxt_async.protocol.requests import send_form as send_form
    from qxt_async.protocol.texts import SUBSTITUTIONS as SUBSTITUTIONS
    from qxt_async.protocol.texts import BadCharacter as BadCharacter
    from qxt_async.protocol.texts import bad_characters as bad_characters
    from qxt_async.protocol.texts import check_extno as check_extno
    from qxt_async.protocol.texts import encode as encode
    from qxt_async.protocol.texts import segments as segments
    from qxt_async.protocol.texts import substitute as substitute

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        ".models": "mask",
        "answers": "Answer parse_balance parse_send",
        "numbers": "MOBILE_PATTERN Deduplicator NumberFilter canonical deduplicate normalize",
        "pushes": "OptOut Push PushFlag PushLimits parse_push",
        "requests": "MAX_NUMBERS Credentials balance_form send_form",
        "texts": "SUBSTITUTIONS BadCharacter bad_characters check_extno encode segments substitute",
    },
)
