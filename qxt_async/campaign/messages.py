"""The message of each row of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from qxt_async.errors import InvalidExtnoError
from qxt_async.files import Template
from qxt_async.models import Message, repr_length
from qxt_async.protocol.texts import check_extno, encode, segments
from qxt_async.protocol.texts import substitute as substitute_characters

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(eq=False)
class RowMessage:
    """The message of a row, or what is wrong with the row.

    Rows with equal values share one object, so two of them are compared by identity, without comparing their texts.

    Attributes:
        message: ``None`` if it cannot be made.
        segments: messages that each number is billed as.
        fault: what is wrong; empty if the message can be sent.
    """

    message: Message | None
    segments: int = 0
    fault: str = ""


@attrs.define
class MessageRules:
    """How the values of a row become its message. The arguments are those of `Campaigns.plan`.

    Attributes:
        template: the parsed text.

    Raises:
        InvalidRequestError: the text or the extension number cannot be sent.
    """

    text: str = attrs.field(repr=repr_length)
    literal: bool = attrs.field(kw_only=True)
    extno: str | None = attrs.field(kw_only=True)
    extno_column: str | None = attrs.field(kw_only=True)
    addseqno: bool = attrs.field(kw_only=True)
    substitute: bool = attrs.field(kw_only=True)
    channel_digits: int = attrs.field(kw_only=True)
    template: Template = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.template = Template.parse(self.text)
        if not self.literal:
            self.template.check()
        if self.extno is not None:
            self.extno = check_extno(self.extno, channel_digits=self.channel_digits)
        example = self.template.render(["x"] * len(self.template.columns))
        encode(substitute_characters(example) if self.substitute else example)

    @property
    def columns(self) -> Sequence[str]:
        """The columns whose values `message` takes, in this order."""
        return self.template.columns if self.extno_column is None else (*self.template.columns, self.extno_column)

    def message(self, values: tuple[str, ...]) -> RowMessage:
        """Make the message of a row."""
        extno = self.extno
        if self.extno_column is not None:
            values, own = values[:-1], values[-1].strip()
            extno = own or extno
        if self.substitute:
            values = tuple(map(substitute_characters, values))
        if (fault := self.template.fault(values)) is not None:
            return RowMessage(None, fault=fault)
        try:
            if extno is not None:
                check_extno(extno, channel_digits=self.channel_digits)
        except InvalidExtnoError as error:
            return RowMessage(None, fault=str(error))
        text = self.template.render(values)
        if self.substitute:
            text = substitute_characters(text)
        message = Message(text, extno=extno, addseqno=self.addseqno)
        return RowMessage(message, segments(text, addseqno=self.addseqno))
