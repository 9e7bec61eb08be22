"""What somebody has chosen so far on the way to a reinstall.

A draft lives in the session: a reload, a step back or an error loses nothing of it. It holds what was typed, right or
wrong; `checked.check` says what it means. What is secret in it is sealed, and never on a page again.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from accounts.sealing import SealBroken, seal, unseal
from accounts.secret import Secret
from images.store import public_source
from metadata.documents import MOST_USER_DATA

OWN = "own"
"""In place of an image's number: the one that the customer brings."""
CUSTOM = "custom"
"""The name of the layout that somebody writes."""
LONGEST_CHECKSUM = 200
HIDDEN = "…"
"""Stands on a page for what is secret in an address."""
LONGEST_TYPED = 100_000
"""Characters of a text field that are kept; what is longer than any field may be is refused anyway."""


class Section(StrEnum):
    """The steps on the page, in their order."""

    IMAGE = "image"
    DISKS = "disks"
    ACCESS = "access"
    REVIEW = "review"

    @property
    def next(self) -> "Section":
        """The section behind it; the review is the last."""
        order = list(Section)
        return order[min(order.index(self) + 1, len(order) - 1)]


@dataclass(frozen=True, slots=True)
class OwnDraft:
    """An image that the customer brings, as it was typed. The address may hold a signature: `url` is sealed too."""

    url: str = ""
    headers: str = ""
    checksum: str = ""
    format: str = ""
    flavour: str = ""

    def taken(self, post: QueryDict) -> "OwnDraft":
        """The same with what the form says; no headers keep those that were typed before."""
        url, headers = post.get("own_url", "").strip()[:LONGEST_TYPED], _text(post, "own_headers")[:LONGEST_TYPED]
        kept = "" if post.get("own_no_headers") else self.headers
        return OwnDraft(
            # the address as it is shown is the one that is kept, whatever is hidden in it
            url=self.url if url == self.shown_url else _sealed(url),
            headers=_sealed(headers) if headers.strip() else kept,
            checksum=post.get("own_checksum", "").strip()[:LONGEST_CHECKSUM],
            format=post.get("own_format", "")[:20],
            flavour=post.get("own_flavour", "")[:40],
        )

    @property
    def shown_url(self) -> str:
        """The address as it may be on a page: with `…` in place of what may be secret in it."""
        url = opened(self.url).reveal()
        try:
            shown = public_source(url)
        except ValueError:  # nothing that can be taken apart
            return HIDDEN
        return shown if shown == url else f"{shown}{HIDDEN}"


@dataclass(frozen=True, slots=True)
class Draft:
    """What was chosen and typed so far; `done` are the sections that were confirmed.

    `custom` is the text of a layout, None as long as nobody has written one; `custom_before` what it was before
    somebody began anew. `passphrase` and the values of `secret_answers` are sealed.
    """

    image: str = ""
    own: OwnDraft = field(default_factory=lambda: OwnDraft())
    hook: str = ""
    layout: str = ""
    swap: str = "0"
    use: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    custom: str | None = None
    custom_before: str = ""
    encrypt: bool = False
    passphrase_by: str = "us"
    passphrase: str = ""
    secure_erase: bool = False
    hostname: str = ""
    keys: tuple[str, ...] = ()
    key_line: str = ""
    key_name: str = ""
    answers: Mapping[str, str] = field(default_factory=dict)
    secret_answers: Mapping[str, str] = field(default_factory=dict)
    user_data: bytes = b""
    user_data_file: str = ""
    done: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The draft as the session keeps it."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        lists = {name: list(value) for name, value in plain.items() if isinstance(value, tuple)}
        return {**plain, **lists, "own": asdict(self.own), "user_data": base64.b64encode(self.user_data).decode()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Draft":
        """The draft out of the session; one of another release may lack a field, or have one more."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        own = OwnDraft(**data.get("own", {}))
        return cls(**{**known, **lists, "own": own, "user_data": base64.b64decode(data["user_data"])})

    def confirmed(self, section: Section) -> "Draft":
        """The draft with the section done."""
        return replace(self, done=tuple(dict.fromkeys((*self.done, section.value))))

    @property
    def given_passphrase(self) -> Secret:
        """The passphrase that was typed; empty when none was, or when we are to make one."""
        return opened(self.passphrase) if self.passphrase_by == "me" else Secret("")

    @property
    def answers_given(self) -> dict[str, str]:
        """All answers to the image's questions, the secret ones opened."""
        return {**self.answers, **{name: opened(token).reveal() for name, token in self.secret_answers.items()}}

    @property
    def user_data_text(self) -> str | None:
        """The user data where a text field can hold it unchanged; None where it is kept as a file."""
        if self.user_data_file:
            return None
        try:
            text = self.user_data.decode()
        except UnicodeDecodeError:
            return None
        return None if "\r" in text or "\0" in text else text


def _sealed(text: str) -> str:
    return seal(Secret(text)) if text else ""


def opened(token: str) -> Secret:
    """What is sealed in a draft; nothing where the keys were changed since: then it has to be typed again."""
    try:
        return unseal(token) if token else Secret("")
    except SealBroken:
        return Secret("")


def take(draft: Draft, section: Section, post: QueryDict, files: MultiValueDict[str, Any]) -> Draft:
    """The draft with what the open section's form says; other sections keep what they have."""
    if section is Section.IMAGE:
        own = draft.own.taken(post) if "own_url" in post else draft.own
        return replace(draft, image=post.get("image", "")[:20], own=own)
    if section is Section.DISKS:
        return _with_disks(draft, post)
    if section is Section.ACCESS:
        hostname, line, name = (post.get(field, "").strip() for field in ("hostname", "key_line", "key_name"))
        draft = replace(draft, keys=tuple(post.getlist("keys")), hostname=hostname, key_line=line, key_name=name)
        draft = replace(draft, hook=_text(post, "hook")[:LONGEST_TYPED])
        return _with_user_data(_with_answers(draft, post), post, files)
    return draft


def _with_disks(draft: Draft, post: QueryDict) -> Draft:
    """The layout, the disks for it, and how they are encrypted and wiped."""
    disks = [choice.partition(":") for choice in post.getlist("disk")]
    typed = post.get("passphrase", "")[:LONGEST_TYPED]
    return replace(
        draft,
        layout=post.get("layout", "")[:20],
        swap=post.get("swap", "0")[:4],
        use=tuple(name for what, _, name in disks if what == "use"),
        keep=tuple(name for what, _, name in disks if what == "keep"),
        custom=_text(post, "custom")[:LONGEST_TYPED] if "custom" in post else draft.custom,
        encrypt=bool(post.get("encrypt")),
        passphrase_by="me" if post.get("passphrase_by") == "me" else "us",
        # an empty field keeps what was typed before: it is not put into the page again
        passphrase=_sealed(typed) or draft.passphrase,
        secure_erase=bool(post.get("secure_erase")),
    )


def _with_answers(draft: Draft, post: QueryDict) -> Draft:
    """The answers to the image's questions: fields named `input-` and the question's name, secret ones `secret-`."""
    # of two fields with one name, as a check box has behind its hidden field, the last counts
    sent = {name: post.get(name, "")[:LONGEST_TYPED] for name in post}
    plain = {name.removeprefix("input-"): value for name, value in sent.items() if name.startswith("input-")}
    typed = {
        name.removeprefix("secret-"): value for name, value in sent.items() if name.startswith("secret-") and value
    }
    kept = {name: token for name, token in draft.secret_answers.items() if name not in post.getlist("forget")}
    sealed = {name: _sealed(value) for name, value in typed.items()}
    return replace(draft, answers={**draft.answers, **plain}, secret_answers={**kept, **sealed})


def _with_user_data(draft: Draft, post: QueryDict, files: MultiValueDict[str, Any]) -> Draft:
    """User data is bytes: a file's are taken as they are; of a text field's, the browser's CR LF become LF again."""
    if (upload := files.get("user_data_file")) is not None:
        # One byte more than fits is enough to refuse it; the message has the true size from `check`.
        data = upload.read() if upload.size <= 16 * MOST_USER_DATA else b"\0" * upload.size
        return replace(draft, user_data=data, user_data_file=(upload.name or "a file")[:100])
    typed = _text(post, "user_data")
    if draft.user_data_text is None and post.get("user_data_keep") and not typed:
        return draft
    return replace(draft, user_data=typed.encode(errors="surrogatepass"), user_data_file="")


def _text(post: QueryDict, name: str) -> str:
    """A text field as it was typed: a browser sends its line ends as CR LF."""
    return post.get(name, "").replace("\r\n", "\n")
