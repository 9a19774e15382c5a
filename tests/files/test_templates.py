"""Texts with columns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxt_async.errors import InvalidTextError
from qxt_async.files import Template
from qxt_async.files.columns import find_column
from qxt_async.files.templates import check_no_placeholders


def test_columns_are_filled_in() -> None:
    """Each column stands once in `columns`, in the order of its first place, and wherever it is used in the text."""
    template = Template.parse("尊敬的{name}，订单{ order }已发货，{name}")
    assert template.columns == ("name", "order")
    assert template.render(("张三", "7")) == "尊敬的张三，订单7已发货，张三"


def test_doubled_braces_are_braces() -> None:
    """``{{`` and ``}}`` stand for the braces themselves, also around a column."""
    template = Template.parse("{{{name}}} {{}}")
    assert template.columns == ("name",)
    assert template.render(("x",)) == "{x} {}"


@given(st.text())
def test_any_text_survives_escaping(text: str) -> None:
    """A text whose braces are doubled is itself again, whatever is in it."""
    escaped = text.replace("{", "{{").replace("}", "}}")
    template = Template.parse(escaped)
    assert template.columns == ()
    assert template.render(()) == text


@given(st.text())
def test_values_are_never_read_as_templates(value: str) -> None:
    """What stands in a row is text, whatever it looks like."""
    assert Template.parse("<{a}>").render((value,)) == f"<{value}>"


@pytest.mark.parametrize("name", ["user.password", "0[__class__]", "x!r", "x:>99999999999", "__class__"])
def test_a_column_is_a_name_and_nothing_else(name: str) -> None:
    """No attribute, item, conversion or format is ever evaluated: it would be the name of a column."""
    template = Template.parse("{" + name + "}")
    assert template.columns == (name,)
    with pytest.raises(InvalidTextError, match="there is no column"):
        find_column(template.columns[0], ["user", "x"])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a {name", r"lone '\{' at position 3 of the text: write \{\{"),
        ("a} b", r"lone '\}' at position 2 of the text: write \}\}"),
        ("{a{b}}", r"lone '\{' at position 1"),
        ("a{}", "a column without a name at position 2"),
        ("a{ }", "a column without a name"),
    ],
)
def test_bad_braces_are_refused(text: str, what: str) -> None:
    """A brace that is left open or closes nothing is refused, with its place."""
    with pytest.raises(InvalidTextError, match=what):
        Template.parse(text)


def test_columns_are_found_by_name_or_position() -> None:
    """A name wins over a position, and a position counts from 1."""
    assert [find_column(name, ["number", "x", "name"]) for name in ("name", "2")] == [2, 1]
    assert find_column("2", ["2", "b"]) == 0


@pytest.mark.parametrize(
    ("name", "existing", "what"),
    [
        ("nam", ["number", "", "name"], "there is no column 'nam': there are 1 'number', number 2, 3 'name'$"),
        ("4", ["number", "b", "c"], "there is no column '4'"),
        ("0", ["number"], "there is no column '0'"),
        ("9" * 5000, ["number"], "there is no column"),
        ("name", [], "the source has only numbers and no columns"),
        ("name", [f"c{at}" for at in range(25)], "20 'c19' and 5 more$"),
    ],
)
def test_a_column_that_is_not_there_is_named(name: str, existing: list[str], what: str) -> None:
    """The error names the column and lists those that exist, not endlessly."""
    with pytest.raises(InvalidTextError, match=what):
        find_column(name, existing)


def test_a_name_that_two_columns_have_is_refused() -> None:
    """Neither is guessed; a position says which."""
    existing = ["name", "number", "name"]
    with pytest.raises(
        InvalidTextError, match=r"'name', so give its position: there are 1 'name', 2 'number', 3 'name'$"
    ):
        find_column("name", existing)
    assert find_column("3", existing) == 2


def test_a_number_in_place_of_a_name_is_masked() -> None:
    """The first row of a file without a header may have been taken for one."""
    with pytest.raises(InvalidTextError, match=r"there are 1 'Li', 2 '\+85\*{4}4567'$"):
        find_column("name", ["Li", "+85261234567"])


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("张三", None),
        ("", "column 'name' is empty"),
        (" \t", "column 'name' is empty"),
        ("ab😀", "column 'name' has U+1F600 GRINNING FACE in place 3, which GBK cannot carry"),
        ("a\x00", "column 'name' has U+0000 control character in place 2, which GBK cannot carry"),
    ],
)
def test_faults_of_a_row_are_told(value: str, fault: str | None) -> None:
    """A missing value or a character that cannot be sent is told with its column, and never with the value."""
    assert Template.parse("{name}!").fault((value,)) == fault


@pytest.mark.parametrize(
    ("text", "token", "position"),
    [
        ("您好｛name｝", "｛name｝", 3),
        ("您好｛姓名｝", "｛姓名｝", 3),
        ("${name}!", "${name}", 1),
        ("{{x}}＄{姓名}", "＄{姓名}", 6),
        ("Hi %name%", "%name%", 4),
        ("满100%送50%code%", "%code%", 9),
        ("％first-name％", "％first-name％", 1),
        ("%DATE%", "%DATE%", 1),
        ("%date% %E4%BD%A0", "%date%", 1),
    ],
)
def test_what_looks_like_a_column_and_is_none_is_refused(text: str, token: str, position: int) -> None:
    """Whether others of the text are columns or none are: with what it is, its place, and what to do."""
    what = re.escape(f"{token!r} at position {position} of the text looks like a column and is none")
    with pytest.raises(InvalidTextError, match=rf"{what}: a column is written \{{name\}}; --literal"):
        Template.parse(text).check()
    with pytest.raises(InvalidTextError, match=r"looks like a column and is none, since .* qxt campaign plan fills"):
        check_no_placeholders(text)


@pytest.mark.parametrize(
    "text",
    [
        "满100%送50%",
        "满100%送50% 降20%30%",
        "50% off, 20% more",
        "100%",
        "% %",
        "https://a.test/?q=%E4%BD%A0%20x%BD%e5%bd",
        "q=%A0hello%BDx%",
        "$5 ＄6 $",
        "｛ 】",
        "",
    ],
)
def test_percent_signs_and_dollars_are_a_text(text: str) -> None:
    """Discounts, prices and links are what texts are full of."""
    Template.parse(text).check(["", "name"])
    check_no_placeholders(text, ["", "name"])


@pytest.mark.parametrize("text", ["{name}", "您好{姓名}", "{{name}}", "{}", "{1}", "｛name}", "{ }"])
def test_a_text_for_all_has_no_columns(text: str) -> None:
    """Where nothing is filled in, braces would reach the phones."""
    with pytest.raises(InvalidTextError, match="looks like a column and is none"):
        check_no_placeholders(text)


@pytest.mark.parametrize("text", ["{name}", "{{name}}", "${{name}}", "｛{name}｝", "%{name}%", "$ {name}", "{name}${{"])
def test_columns_and_doubled_braces_look_like_nothing_else(text: str) -> None:
    """What the grammar knows is not doubted, whatever stands around it."""
    Template.parse(text).check(["name"])


def test_the_name_of_a_column_between_percent_signs_is_refused() -> None:
    """In a table with such a column, and in no other."""
    text = "尊敬的%姓名%，满100%送50%"
    check_no_placeholders(text, ["手机"])
    with pytest.raises(InvalidTextError, match="'%姓名%' at position 4"):
        check_no_placeholders(text, ["手机", "姓名"])
    Template.parse(text).check(["手机"])
    with pytest.raises(InvalidTextError, match="'%姓名%' at position 4"):
        Template.parse(text).check(["手机", "姓名"])


def test_a_long_thing_in_braces_is_cut() -> None:
    """A text need not be shown whole."""
    with pytest.raises(InvalidTextError) as caught:
        check_no_placeholders("{" + "x" * 1000 + "}")
    assert f"{{{'x' * 39}…" in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text("{}｛｝%％$ ax\0"))
def test_a_text_that_is_fine_for_all_is_fine_as_a_template(text: str) -> None:
    """A text without anything like a column that can be parsed at all is the same text everywhere."""
    try:
        check_no_placeholders(text)
    except InvalidTextError:
        return
    if not {"{", "}"} & set(text):
        template = Template.parse(text)
        template.check()
        assert template.render(()) == text


def test_a_repr_shows_no_text() -> None:
    """A template may be logged."""
    assert "secret" not in repr(Template.parse("secret {name}"))
