"""What somebody has chosen so far on the way to a reinstall, and what is wrong with it.

A draft lives in the session: a reload, a step back or an error loses nothing of it. It holds what was typed, right or
wrong; `check` says what it means.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from accounts.models import SSHKey
from deploy.actions import InstallRequest
from deploy.context import storage_plan
from images.models import Image
from metadata.documents import MOST_USER_DATA, check_user_data
from metadata.errors import MetadataRefused
from metadata.hostnames import check_hostname
from servers.facts import Facts
from servers.models import Server
from servers.storage.draw import Drawing, drawing
from servers.storage.layout import NAMED, Layout, default_layout
from servers.storage.refusal import StorageRefused
from servers.storage.sizes import GIB, human


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


SWAPS: Mapping[str, int] = {"0": 0, "1": GIB, "4": 4 * GIB, "8": 8 * GIB}
"""The sizes of swap that are offered, by the word in the form."""

LAYOUT_WORDS: Mapping[str, tuple[str, str]] = {
    "raid1": ("RAID1", "Everything is kept twice: either disk may die, and the server still boots."),
    "plain": ("One disk, no RAID", "All of the first disk. When it dies, what is on it is gone."),
}
"""What the named layouts are called, and what they mean."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What was chosen and typed so far; `done` are the sections that were confirmed."""

    image: str = ""
    layout: str = ""
    swap: str = "0"
    keep: tuple[str, ...] = ()
    hostname: str = ""
    keys: tuple[str, ...] = ()
    key_line: str = ""
    key_name: str = ""
    user_data: bytes = b""
    user_data_file: str = ""
    done: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The draft as the session keeps it."""
        return {
            "image": self.image, "layout": self.layout, "swap": self.swap, "keep": list(self.keep),
            "hostname": self.hostname, "keys": list(self.keys), "key_line": self.key_line, "key_name": self.key_name,
            "user_data": base64.b64encode(self.user_data).decode(), "user_data_file": self.user_data_file,
            "done": list(self.done),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Draft":
        """The draft out of the session."""
        lists = {name: tuple(data[name]) for name in ("keep", "keys", "done")}
        return cls(**{**data, **lists, "user_data": base64.b64decode(data["user_data"])})

    def confirmed(self, section: Section) -> "Draft":
        """The draft with the section done."""
        return replace(self, done=tuple(dict.fromkeys((*self.done, section.value))))

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


def first_draft(server: Server, keys: Sequence[SSHKey], images: Sequence[Image]) -> Draft:
    """What to offer at first: as the last install was, else what suits the machine."""
    last = server.installs.order_by("-created_at").first()
    named = {name for name, _ in last.ssh_keys} if last else set()
    chosen = [key for key in keys if key.name in named] or (list(keys) if len(keys) == 1 else [])
    image = last.image_id if last and any(one.pk == last.image_id for one in images) else None
    if image is None and len(images) == 1:
        image = images[0].pk
    return Draft(
        image=str(image or ""),
        layout=default_layout(server.facts()).name,
        hostname=server.name,
        keys=tuple(str(key.pk) for key in chosen),
    )


def take(draft: Draft, section: Section, post: QueryDict, files: MultiValueDict[str, Any]) -> Draft:
    """The draft with what the open section's form says; other sections keep what they have."""
    if section is Section.IMAGE:
        return replace(draft, image=post.get("image", "")[:20])
    if section is Section.DISKS:
        return replace(
            draft, layout=post.get("layout", "")[:20], swap=post.get("swap", "0")[:4], keep=tuple(post.getlist("keep"))
        )
    if section is Section.ACCESS:
        hostname, line, name = (post.get(field, "").strip() for field in ("hostname", "key_line", "key_name"))
        draft = replace(draft, keys=tuple(post.getlist("keys")), hostname=hostname, key_line=line, key_name=name)
        return _with_user_data(draft, post, files)
    return draft


def _with_user_data(draft: Draft, post: QueryDict, files: MultiValueDict[str, Any]) -> Draft:
    """User data is bytes: a file's are taken as they are; of a text field's, the browser's CR LF become LF again."""
    if (upload := files.get("user_data_file")) is not None:
        # One byte more than fits is enough to refuse it; the message has the true size from `check`.
        data = upload.read() if upload.size <= 16 * MOST_USER_DATA else b"\0" * upload.size
        return replace(draft, user_data=data, user_data_file=(upload.name or "a file")[:100])
    typed = post.get("user_data", "").replace("\r\n", "\n")
    if draft.user_data_text is None and post.get("user_data_keep") and not typed:
        return draft
    return replace(draft, user_data=typed.encode(errors="surrogatepass"), user_data_file="")


@dataclass(frozen=True, slots=True)
class LayoutChoice:
    """A layout that is offered: drawn where this server can have it, with the reason where it cannot."""

    name: str
    title: str
    note: str
    layout: Layout | None = None
    drawing: Drawing | None = None
    summary: str = ""
    notes: tuple[str, ...] = ()
    why: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a draft means: the rows that it names, and what is wrong with it, by the field's name."""

    image: Image | None = None
    layouts: tuple[LayoutChoice, ...] = ()
    layout: LayoutChoice | None = None
    hostname: str = ""
    keys: tuple[SSHKey, ...] = ()
    errors: Mapping[Section, Mapping[str, str]] = field(default_factory=dict)

    def is_good(self, section: Section) -> bool:
        """Whether nothing is wrong in a section."""
        return not self.errors.get(section)

    def request(self, server: Server, draft: Draft) -> InstallRequest:
        """What is asked for, once all sections are good."""
        assert self.image and self.layout and self.layout.layout
        return InstallRequest(server, self.image, self.layout.layout, self.hostname, self.keys, draft.user_data)


def check(draft: Draft, server: Server, images: Sequence[Image], keys: Sequence[SSHKey]) -> Checked:
    """What the draft means for this server, of these images and keys; writes nothing."""
    facts = server.facts()
    image = next((one for one in images if str(one.pk) == draft.image), None)
    layouts = tuple(_choice(name, draft, facts, image) for name in LAYOUT_WORDS)
    layout = next((one for one in layouts if one.name == draft.layout), None)
    chosen = tuple(key for key in keys if str(key.pk) in draft.keys)
    hostname, access = _check_access(draft, chosen)
    return Checked(
        image, layouts, layout, hostname, chosen,
        {Section.IMAGE: _check_image(image), Section.DISKS: _check_layout(layout), Section.ACCESS: access},
    )  # fmt: skip


def _check_image(image: Image | None) -> dict[str, str]:
    if image is None:
        return {"image": "Choose the image that is to be installed."}
    if is_over(image):
        return {"image": f"{image.name} has reached its end of life. Choose a newer version."}
    return {}


def is_over(image: Image) -> bool:
    """Whether nobody mends the image's distribution any more."""
    return bool(image.end_of_life and image.end_of_life < timezone.now().date())


def _check_layout(choice: LayoutChoice | None) -> dict[str, str]:
    if choice is None:
        return {"layout": "Choose how the disks are laid out."}
    return {"layout": f"{choice.why} {choice.fix}"} if choice.why else {}


def _check_access(draft: Draft, keys: Sequence[SSHKey]) -> tuple[str, dict[str, str]]:
    errors: dict[str, str] = {}
    hostname = draft.hostname
    try:
        hostname = check_hostname(draft.hostname)
    except MetadataRefused as refused:
        errors["hostname"] = str(refused)
    if not keys:
        errors["keys"] = "Choose at least one SSH key: without it nobody could log in."
    try:
        check_user_data(draft.user_data)
    except MetadataRefused as refused:
        errors["user_data"] = str(refused)
    return hostname, errors


def _choice(name: str, draft: Draft, facts: Facts, image: Image | None) -> LayoutChoice:
    """A named layout on this machine, with the draft's swap and kept disks."""
    title, note = LAYOUT_WORDS[name]
    default = default_layout(facts)
    wanted = {"swap": SWAPS.get(draft.swap, 0), "keep": draft.keep}
    if default.name == name and not draft.keep:
        wanted["disks"] = default.disks
    try:
        layout = NAMED[name](**wanted)
        # The image may not be chosen yet: then the plan is that of the smallest one.
        plan = storage_plan(layout, facts, image or Image(flavour="debian-12", root_bytes=1), UUID(int=0))
    except StorageRefused as refused:
        return LayoutChoice(name, title, note, why=refused.why, fix=refused.fix)
    return LayoutChoice(name, title, note, layout, drawing(plan), ", ".join(plan.summary()), plan.notes)


def reviewed(checked: Checked, server: Server, draft: Draft) -> str:
    """A digest of everything that the review has shown: what is confirmed is what was seen, in whatever window."""
    seen = [
        draft.to_json() | {"done": [], "key_line": "", "key_name": ""},
        checked.image.sha256 if checked.image else "",
        [key.fingerprint for key in checked.keys],
        [disk.path + disk.identity + str(disk.size) for disk in server.facts().disks],
    ]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def user_data_words(draft: Draft) -> str:
    """The user data in a few words; empty when there is none."""
    if not draft.user_data:
        return ""
    source = f" from {draft.user_data_file}" if draft.user_data_file else ""
    return f"{human(len(draft.user_data))} of user data{source}"
