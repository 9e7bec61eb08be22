import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata.hostnames import HostnameRefused, check_hostname

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
LAST_LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    "name", ["web1", "web1.example.org", "3com", "a", "x--y", "1.2.3.example", "a" * 63, ".".join(["a" * 49] * 5)]
)
def test_a_name_of_rfc_1123_is_taken_as_it_is(name: str) -> None:
    assert check_hostname(name) == name


def test_capitals_become_small_letters() -> None:
    assert check_hostname("Web1.Example.ORG") == "web1.example.org"


def test_253_characters_are_the_most() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(longest) == 253
    assert check_hostname(longest) == longest
    with pytest.raises(HostnameRefused, match="254 characters"):
        check_hostname(longest + "d")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("web_1", "letters a to z, digits and hyphens"),
        ("web 1", "letters a to z, digits and hyphens"),
        ("web1\n", "letters a to z, digits and hyphens"),
        ("büro", "letters a to z, digits and hyphens"),
        ("web1;reboot", "letters a to z, digits and hyphens"),
        ("-web1", "hyphen"),
        ("web1-.example.org", "hyphen"),
        ("web1.", "dot"),
        (".web1", "dot"),
        ("web1..example.org", "dot"),
        ("a" * 64, "At most 63"),
        ("192.0.2.1", "IP address"),
        ("12345", "IP address"),
        ("example.٣", "letters a to z, digits and hyphens"),
    ],
)
def test_anything_else_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(HostnameRefused, match=why) as refusal:
        check_hostname(name)
    assert refusal.value.why.endswith(".")


@given(st.lists(LABEL, max_size=4), LAST_LABEL)
def test_labels_joined_by_dots_are_a_name(labels: list[str], last: str) -> None:
    name = ".".join([*labels, last])
    assert check_hostname(name) == name


@given(st.text(max_size=300))
def test_any_text_is_either_refused_or_a_name_that_is_taken_again(text: str) -> None:
    try:
        name = check_hostname(text)
    except HostnameRefused as refusal:
        assert refusal.why
    else:
        assert check_hostname(name) == name == text.lower()
