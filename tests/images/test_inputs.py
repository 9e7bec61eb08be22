"""The questions of an image, and their answers."""

import json
from typing import Any

import pytest

from accounts.secret import Secret
from images.inputs import MOST_INPUTS, Answers, Input, InputsRefused, InputType, answers, parse_inputs, read_inputs
from tests.builders import public_key

EVERY: list[dict[str, Any]] = [
    {"name": "site", "type": "text", "default": "Main", "help": "As it stands on the first page."},
    {"name": "admin_password", "type": "secret", "mandatory": True},
    {"name": "port", "type": "number", "default": "8080"},
    {"name": "https", "type": "boolean", "default": "true"},
    {"name": "size", "type": "choice", "choices": ["small", "large"], "mandatory": True},
    {"name": "backup_key", "type": "ssh-key"},
]


def refused(*inputs: object) -> str:
    with pytest.raises(InputsRefused) as error:
        parse_inputs(list(inputs))
    return str(error.value)


def answer(kind: str, text: str, **more: Any) -> Answers:
    return answers(parse_inputs([{"name": "x", "type": kind, **more}]), {"x": text})


def test_what_is_read_is_written_the_same() -> None:
    assert [one.to_json() for one in parse_inputs(EVERY)] == EVERY
    assert read_inputs(json.dumps(EVERY)) == parse_inputs(EVERY)


def test_no_questions_are_none() -> None:
    assert read_inputs(" \n") == read_inputs("[]") == parse_inputs(None) == ()


def test_a_question_is_a_text_that_nobody_must_answer_unless_it_says_more() -> None:
    (one,) = parse_inputs([{"name": "admin_mail"}])
    assert one == Input("admin_mail", InputType.TEXT)
    assert (one.label, one.variable) == ("Admin mail", "LANDFALL_INPUT_ADMIN_MAIL")


def test_a_default_may_be_written_as_json_has_it() -> None:
    inputs = parse_inputs(
        [{"name": "a", "type": "number", "default": 80}, {"name": "b", "type": "boolean", "default": True}]
    )
    assert [one.default for one in inputs] == ["80", "true"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "its name"),
        ({"name": "Admin"}, "its name"),
        ({"name": "a-b"}, "its name"),
        ({"name": "1a"}, "its name"),
        ({"name": "a" * 41}, "its name"),
        ({"name": "ä"}, "its name"),
        ({"name": "a\n"}, "its name"),
        ({"name": 5}, "its name"),
        ({"name": "dsmode"}, "cloud-init reads"),
        ({"name": "a", "type": "file"}, "its type is one of: text, secret, number, boolean, choice, ssh-key"),
        ({"name": "a", "type": []}, "its type"),
        ({"name": "a", "type": "choice"}, "needs its choices"),
        ({"name": "a", "choices": ["x"]}, "only the type choice"),
        ({"name": "a", "type": "choice", "choices": "x"}, "list of texts"),
        ({"name": "a", "type": "choice", "choices": ["x", "x"]}, "differ"),
        ({"name": "a", "type": "choice", "choices": [""]}, "list of texts"),
        ({"name": "a", "type": "choice", "choices": ["x"], "default": "y"}, "no answer to it. Choose one of: x"),
        ({"name": "a", "type": "number", "default": "many"}, "no answer to it"),
        ({"name": "a", "type": "number", "default": 1e400}, "no answer to it"),
        ({"name": "a", "type": "secret", "default": "hunter2"}, "everybody would read it"),
        ({"name": "a", "default": "two\nlines"}, "one line"),
        ({"name": "a", "default": []}, "its default"),
        ({"name": "a", "mandatory": "yes"}, "true or false"),
        ({"name": "a", "help": "x" * 301}, "its help"),
        ({"name": "a", "help": 1}, "its help"),
        ({"name": "a", "label": "A"}, "no 'label' in a question"),
        ("a", "write it as"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(wrong: object, words: str) -> None:
    assert words in refused({"name": "good"}, wrong)
    assert "Question 2" in refused({"name": "good"}, wrong)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    message = refused({"name": "A"}, {"name": "b", "type": "x"}, {"name": "c"}, {"name": "c"})
    assert "Question 1 (A)" in message
    assert "Question 2 (b)" in message
    assert "Two questions are named c." in message


@pytest.mark.parametrize("text", ["{", "{}", '"x"', "5", "[" * 100_000, "[" + "9" * 5000 + "]", "x" * 70_000])
def test_what_is_no_list_of_questions_is_refused(text: str) -> None:
    with pytest.raises(InputsRefused):
        read_inputs(text)


def test_a_mistake_in_the_json_is_told_by_its_line() -> None:
    with pytest.raises(InputsRefused, match="line 2, column"):
        read_inputs('[\n{"name": "a",}]')


def test_there_is_an_end_to_questions() -> None:
    assert f"can ask {MOST_INPUTS}" in refused(*({"name": f"a{number}"} for number in range(MOST_INPUTS + 1)))


def test_answers_go_to_the_config_drive_and_to_the_hook_script_but_secrets_to_the_script_alone() -> None:
    key = public_key()
    given = {"admin_password": "hunter2", "size": "large", "backup_key": key, "https": "off"}
    answered = answers(parse_inputs(EVERY), given)
    assert not answered.errors
    assert answered.meta == {"site": "Main", "port": "8080", "https": "false", "size": "large", "backup_key": key}
    assert answered.environment["LANDFALL_INPUT_ADMIN_PASSWORD"] == Secret("hunter2")
    assert answered.environment["LANDFALL_INPUT_SIZE"] == "large"
    assert "hunter2" not in repr(answered)


def test_what_must_be_answered_is_missed() -> None:
    answered = answers(parse_inputs(EVERY), {"size": " "})
    assert set(answered.errors) == {"admin_password", "size"}


def test_a_question_without_answer_and_default_is_left_out() -> None:
    assert answer("text", "  ") == Answers()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text", "two\nlines"), ("text", "x" * 1001), ("secret", "x" * 201), ("secret", "a\0b"), ("number", "1e5"),
        ("number", "１"), ("number", "0x10"), ("boolean", "maybe"), ("ssh-key", "ssh-rsa AAAA"),
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_refused_with_what_would_be_one(kind: str, text: str) -> None:
    answered = answer(kind, text)
    assert answered.errors["x"].endswith((".", "ssh-keygen -t ed25519"))
    assert not answered.meta


def test_only_the_choices_can_be_chosen() -> None:
    assert answer("choice", "c", choices=["a", "b"]).errors == {"x": "Choose one of: a, b."}
    assert answer("choice", "b", choices=["a", "b"]).meta == {"x": "b"}


def test_a_secret_keeps_its_spaces() -> None:
    assert answer("secret", " a ").secrets == {"x": Secret(" a ")}


def test_what_was_not_asked_is_not_answered() -> None:
    assert answers((), {"PATH": "/evil"}) == Answers()
