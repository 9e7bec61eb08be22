"""A layout as people write it: what each slip of the pen gets for an answer, and where it says that it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.storage.layout import NAMED, REST, Filesystem, Layout, Raid
from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import GIB
from servers.storage.written import LONGEST_TEXT, TextRefused, read_layout, write_layout

ROOT = '{"mount": "/", "size": "20 GiB"}'


def filesystems(*lines: str) -> str:
    """A layout with these file systems, the first on line 2."""
    return '{"filesystems": [\n' + ",\n".join(lines) + "\n]}"


def refused(text: str) -> TextRefused:
    """What a text gets for an answer."""
    with pytest.raises(TextRefused) as caught:
        read_layout(text)
    return caught.value


def marked(text: str) -> str:
    """The part of the text that the answer points at."""
    place = refused(text).place
    assert place
    assert text.splitlines()[place.line - 1].find(place.text) == 0
    return text[place.start : place.end]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_layout_is_written_as_it_is_read(name: str) -> None:
    layout = NAMED[name](swap=4 * GIB, keep=("S3Z8",))
    assert read_layout(write_layout(layout)) == layout


def test_a_written_layout_says_only_what_is_not_by_default() -> None:
    layout = Layout("custom", (Filesystem("/", size=20 * GIB), Filesystem("/home", size=REST, raid=Raid.RAID1)))
    text = write_layout(layout)
    assert '    {"mount": "/home", "type": "ext4", "size": "rest", "raid": "raid1"}\n' in text
    assert "keep" not in text
    assert "null" not in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (filesystems(ROOT, '{"mount": "/srv", "size": "-5 GiB"}'), '"size": "-5 GiB"'),
        (filesystems(ROOT, '{"mount": "/srv", "type": "ext9", "size": "rest"}'), '"type": "ext9"'),
        (filesystems(ROOT, '{"mount": "srv"}'), '"mount": "srv"'),
        (filesystems(ROOT, '{"mount": "/srv", "sise": "5 GiB"}'), '"sise": "5 GiB"'),
        (filesystems(ROOT, '{"mount": "/srv", "raid": "raid7"}'), '"raid": "raid7"'),
        (filesystems(ROOT, "17"), "17"),
        (filesystems(ROOT, ROOT), '"mount": "/"'),
        (filesystems(ROOT, '{"mount": "/a"}', '{"mount": "/b"}'), '{"mount": "/b"}'),
        ('{"filesystems": [{"mount": "/"}],\n "swap": "rest"}', '"swap": "rest"'),
        ('{"filesystems": [{"mount": "/"}],\n "keep": ["S1", "/dev/sda"]}', '"/dev/sda"'),
        ('{"swap": "1 GiB", "filesystems": [{"mount": "/"}], "swap": "2 GiB"}', '"swap": "2 GiB"'),
    ],
)
def test_a_mistake_is_marked_where_it_stands(text: str, part: str) -> None:
    assert marked(text) == part


def test_a_place_has_its_line_and_column() -> None:
    place = refused(filesystems(ROOT, '{"mount": "/srv", "size": "much"}')).place
    assert place
    assert (place.line, place.column, place.text) == (3, 19, '{"mount": "/srv", "size": "much"}')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Nothing is written here."),
        (" \n\t", "Nothing is written here."),
        ("{", "in place of the end of the text"),
        ('{"filesystems": [],}', "in place of '}'"),
        ('{"filesystems": [{"mount": "/" "size": "rest"}]}', "comma or a closing bracket is missing before '\"'"),
        ('{"filesystems" []}', "A colon is missing before '['"),
        ("{'filesystems': []}", "in place of '''"),
        ('{"filesystems": [{"mount": "/}]}', "no closing quote"),
        ('{"filesystems": [{"mount": "/\n"}]}', "goes on over the end of its line"),
        ('{"filesystems": [{"mount": "\\q"}]}', "A backslash"),
        ('{"filesystems": []} x', "Something follows behind the end of the layout: 'x'"),
        ('{"filesystems": [{"mount": "/", "size": NaN}]}', "NaN is no size"),
        ('{"filesystems": [{"mount": "/", "size": ' + "9" * 5000 + "}]}", "too long"),
        ("[" * 10_000, "nested too deeply"),
        ('{"a":' * 3_000, "nested too deeply"),
        ("\ufeff{}", "byte order mark"),
        ("x" * (LONGEST_TEXT + 1), "20,001 characters"),
        ("null", "is not a JSON object"),
        ('"/"', "is not a JSON object"),
    ],
)
def test_what_is_no_layout_at_all_says_so(text: str, why: str) -> None:
    assert why in refused(text).why
    assert refused(text).fix


def test_a_broken_text_is_marked_where_it_breaks() -> None:
    text = filesystems(ROOT, '{"mount": "/srv" "size": "rest"}')
    place = refused(text).place
    assert place
    assert (place.line, text[place.start :][:6]) == (3, '"size"')


def test_a_large_text_with_a_mistake_is_answered_without_looking_for_its_place() -> None:
    many = [f'{{"mount": "/srv{number}", "size": "1 GiB"}}' for number in range(300)]
    assert refused(filesystems(*many)).place is None


@given(st.text(max_size=200) | st.from_regex(r'[{}\[\]":, a-z0-9/]{0,60}', fullmatch=True))
def test_whatever_is_typed_is_a_layout_or_gets_a_sentence(text: str) -> None:
    try:
        read_layout(text)
    except LayoutRefused as error:
        assert error.why
        assert error.fix


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["/", "/home", "rest", "ext4", "raid1", "20 GiB", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["mount", "size", "type", "raid", "swap", "keep"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=3), _JSON)
def test_whatever_json_is_written_is_a_layout_or_gets_a_sentence(filesystems: object, swap: object) -> None:
    text = json.dumps({"filesystems": filesystems, "swap": swap}, indent=1)
    try:
        read_layout(text)
    except TextRefused as error:
        assert error.place is None or text[error.place.start : error.place.end]
