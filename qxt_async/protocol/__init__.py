"""The gateway's language, without I/O: numbers, texts, requests, answers, pushes."""

from typing import TYPE_CHECKING

from qxt_async.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from qxt_async.protocol.answers import Answer, parse_balance, parse_send
    from qxt_async.protocol.numbers import (
        MOBILE_PATTERN,
        Deduplicator,
        NumberFilter,
        canonical,
        deduplicate,
        mask,
        normalize,
    )
    from qxt_async.protocol.pushes import OptOut, Push, PushFlag, PushLimits, parse_push
    from qxt_async.protocol.requests import MAX_NUMBERS, Credentials, balance_form, send_form
    from qxt_async.protocol.texts import (
        SUBSTITUTIONS,
        BadCharacter,
        bad_characters,
        check_extno,
        encode,
        segments,
        substitute,
    )

__all__ = [
    "MAX_NUMBERS",
    "MOBILE_PATTERN",
    "SUBSTITUTIONS",
    "Answer",
    "BadCharacter",
    "Credentials",
    "Deduplicator",
    "NumberFilter",
    "OptOut",
    "Push",
    "PushFlag",
    "PushLimits",
    "bad_characters",
    "balance_form",
    "canonical",
    "check_extno",
    "deduplicate",
    "encode",
    "mask",
    "normalize",
    "parse_balance",
    "parse_push",
    "parse_send",
    "segments",
    "send_form",
    "substitute",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "answers": (
            "Answer",
            "parse_balance",
            "parse_send",
        ),
        "numbers": (
            "MOBILE_PATTERN",
            "NumberFilter",
            "Deduplicator",
            "canonical",
            "mask",
            "normalize",
            "deduplicate",
        ),
        "pushes": (
            "OptOut",
            "Push",
            "PushFlag",
            "PushLimits",
            "parse_push",
        ),
        "requests": (
            "MAX_NUMBERS",
            "Credentials",
            "balance_form",
            "send_form",
        ),
        "texts": (
            "SUBSTITUTIONS",
            "BadCharacter",
            "bad_characters",
            "check_extno",
            "encode",
            "segments",
            "substitute",
        ),
    },
)
