"""The questions that an image asks before it is installed: as an admin writes them, and as a customer answers them.

An image's `capabilities["inputs"]` is a list of them. An answer reaches the new system in two ways: as a pair in the
config drive's `meta` (`Answers.meta`; a secret never), and as an environment variable of the hook script
(`Answers.environment`). Pure: values in, values out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from accounts.secret import Secret
from accounts.sshkeys import KeyRefused, parse_public_key

MOST_INPUTS: Final = 30
MOST_CHOICES: Final = 50
LONGEST_TEXT: Final = 1000
LONGEST_SECRET: Final = 200
LONGEST_HELP: Final = 300
LONGEST_JSON: Final = 64 * 1024

ENVIRONMENT_PREFIX: Final = "LANDFALL_INPUT_"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,9})?", re.ASCII)
_TAKEN: Final = {"dsmode": "cloud-init reads a pair of that name as an order"}
_YES: Final = {"true", "yes", "on", "1"}
_NO: Final = {"false", "no", "off", "0"}
_KEYS: Final = ("name", "type", "default", "mandatory", "choices", "help")


class InputType(StrEnum):
    """What kind of answer a question wants."""

    TEXT = "text"  # one line
    SECRET = "secret"  # one line that is never shown, stored sealed, and handed to the hook script alone
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"  # one of `choices`
    SSH_KEY = "ssh-key"  # a public key in one line


class InputsRefused(Exception):
    """Questions that cannot be asked like that: `errors` says in sentences what is wrong with each."""

    def __init__(self, *errors: str) -> None:
        super().__init__(" ".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Input:
    """One question. `default` is the answer that is there already, as text; empty where there is none."""

    name: str
    type: InputType = InputType.TEXT
    default: str = ""
    mandatory: bool = False
    choices: tuple[str, ...] = ()
    help: str = ""

    @property
    def label(self) -> str:
        """The name as people read it: `admin_mail` becomes `Admin mail`."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def variable(self) -> str:
        """The environment variable in which the hook script finds the answer."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    def to_json(self) -> dict[str, Any]:
        """The question as it is kept: what `parse_inputs` reads; what is not said is left out."""
        kept: dict[str, Any] = {"name": self.name, "type": self.type.value}
        if self.default:
            kept["default"] = self.default
        if self.mandatory:
            kept["mandatory"] = True
        if self.choices:
            kept["choices"] = list(self.choices)
        if self.help:
            kept["help"] = self.help
        return kept


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered, and what is wrong with it, by the question's name. Use nothing of it while there are errors.

    A question that was left open and has no default is in neither.
    """

    plain: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def meta(self) -> dict[str, str]:
        """The pairs for the config drive's `meta`: whoever can log in reads those, so no secret is among them."""
        return dict(self.plain)

    @property
    def environment(self) -> dict[str, str | Secret]:
        """The hook script's variables, secrets among them."""
        named: dict[str, str | Secret] = {**self.plain, **self.secrets}
        return {ENVIRONMENT_PREFIX + name.upper(): value for name, value in named.items()}


def read_inputs(text: str) -> tuple[Input, ...]:
    """The questions in a JSON text, as an admin types it; blank is none. InputsRefused says where it is wrong."""
    if not text.strip():
        return ()
    if len(text) > LONGEST_JSON:
        raise InputsRefused(f"The questions have more than {LONGEST_JSON} characters.")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputsRefused(f"This is no JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except (RecursionError, ValueError) as error:
        raise InputsRefused("This JSON cannot be read: it is nested too deeply, or has too long a number.") from error
    return parse_inputs(data)


def parse_inputs(data: object) -> tuple[Input, ...]:
    """The questions in a list as it is kept with an image; InputsRefused names everything that is wrong with it."""
    if data is None:
        return ()
    if not isinstance(data, list):
        raise InputsRefused('Write a list of questions: [{"name": "admin_mail", "type": "text"}].')
    if len(data) > MOST_INPUTS:
        raise InputsRefused(f"These are {len(data)} questions; an image can ask {MOST_INPUTS}.")
    inputs: list[Input] = []
    errors: list[str] = []
    for number, one in enumerate(data, 1):
        try:
            inputs.append(_parse(one))
        except InputsRefused as refused:
            named = isinstance(one, dict) and isinstance(one.get("name"), str) and one["name"]
            which = f"Question {number} ({one['name'][:40]})" if named else f"Question {number}"
            errors.extend(f"{which}: {error}" for error in refused.errors)
    names = [one.name for one in inputs]
    errors.extend(f"Two questions are named {name}." for name in sorted({n for n in names if names.count(n) > 1}))
    if errors:
        raise InputsRefused(*errors)
    return tuple(inputs)


def answers(inputs: tuple[Input, ...], given: Mapping[str, str]) -> Answers:
    """The answers out of `given`, by name as a form sends them. What is missing or blank is the default.

    A boolean that is missing is its default, too: a form with a checkbox sends a hidden `false` before it.
    """
    plain: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    errors: dict[str, str] = {}
    for one in inputs:
        text = given.get(one.name, "")
        text = (text if one.type is InputType.SECRET else text.strip()) or one.default
        if not text:
            if one.mandatory:
                errors[one.name] = "This needs an answer."
            continue
        try:
            answer = _answer(one, text)
        except ValueError as error:
            errors[one.name] = str(error)
            continue
        if one.type is InputType.SECRET:
            secrets[one.name] = Secret(answer)
        else:
            plain[one.name] = answer
    return Answers(plain, secrets, errors)


def _answer(one: Input, text: str) -> str:
    """The answer as it is kept; ValueError says what would be one."""
    match one.type:
        case InputType.NUMBER:
            if not _NUMBER.fullmatch(text):
                raise ValueError("Write a number: 8080 or 0.5.")
        case InputType.BOOLEAN:
            if text.lower() not in _YES | _NO:
                raise ValueError("Answer with true or false.")
            return "true" if text.lower() in _YES else "false"
        case InputType.CHOICE:
            if text not in one.choices:
                raise ValueError(f"Choose one of: {', '.join(one.choices)}.")
        case InputType.SSH_KEY:
            try:
                return parse_public_key(text).line
            except KeyRefused as refused:
                raise ValueError(refused.why) from refused
        case _:
            most = LONGEST_SECRET if one.type is InputType.SECRET else LONGEST_TEXT
            if not text.isprintable() or len(text) > most:
                raise ValueError(f"Write one line of at most {most} characters.")
    return text


def _parse(data: object) -> Input:
    if not isinstance(data, dict):
        raise InputsRefused('write it as {"name": …, "type": …}.')
    errors = [f"there is no {key!r} in a question; there are: {', '.join(_KEYS)}." for key in data if key not in _KEYS]
    kind = data.get("type", InputType.TEXT.value)
    if kind not in list(InputType):
        errors.append(f"its type is one of: {', '.join(InputType)}.")
    errors.extend(_wrong_shapes(data))
    if errors:
        raise InputsRefused(*errors)
    one = Input(
        name=data["name"],
        type=InputType(kind),
        default=_text(data.get("default")),
        mandatory=data.get("mandatory", False),
        choices=tuple(data.get("choices", ())),
        help=data.get("help", "").strip(),
    )
    if errors := _contradictions(one):
        raise InputsRefused(*errors)
    return one


def _wrong_shapes(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with each value by itself."""
    errors = []
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        errors.append("its name has small letters, digits and _, begins with a letter, and is no longer than 40.")
    elif name in _TAKEN:
        errors.append(f"choose another name: {_TAKEN[name]}.")
    if not isinstance(data.get("default", ""), str | int | float | bool | None):
        errors.append("its default is a text, a number, true or false.")
    if not isinstance(data.get("mandatory", False), bool):
        errors.append("mandatory is true or false.")
    choices = data.get("choices", [])
    if not isinstance(choices, list) or not all(_is_line(one, 100) for one in choices):
        errors.append('its choices are a list of texts: ["small", "large"].')
    elif len(set(choices)) != len(choices) or len(choices) > MOST_CHOICES:
        errors.append(f"its choices differ, and are no more than {MOST_CHOICES}.")
    if data.get("help", "") != "" and not _is_line(data["help"], LONGEST_HELP):
        errors.append(f"its help is one line of at most {LONGEST_HELP} characters.")
    return errors


def _contradictions(one: Input) -> list[str]:
    """What does not go together in a question."""
    errors = []
    if one.type is InputType.CHOICE and not one.choices:
        errors.append("a choice needs its choices.")
    if one.type is not InputType.CHOICE and one.choices:
        errors.append("only the type choice has choices.")
    if one.default and one.type is InputType.SECRET:
        errors.append("a secret has no default: everybody would read it here.")
    elif one.default:
        try:
            _answer(one, one.default)
        except ValueError as error:
            errors.append(f"its default is no answer to it. {error}")
    return errors


def _is_line(value: object, most: int) -> bool:
    return isinstance(value, str) and value.strip() == value != "" and value.isprintable() and len(value) <= most


def _text(value: object) -> str:
    """A default as text: JSON's true is `true`."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
