"""What a draft means for a server: the rows that it names, its layout drawn, and what is wrong, by the field."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from accounts.models import SSHKey
from deploy import passphrase
from deploy.actions import InstallRequest
from deploy.context import unseen_image
from deploy.passphrase import PassphraseRefused
from images.flavours import FLAVOURS
from images.importing import file_name
from images.inputs import Answers, Input, InputsRefused, answers, parse_inputs
from images.inspect import claimed_format
from images.life import Life, life
from images.models import Format, Image
from images.own import OwnImageWish, check_checksum, check_headers, check_hook, check_url
from images.refusal import ImageRefused
from metadata.documents import check_user_data
from metadata.errors import MetadataRefused
from metadata.hostnames import check_hostname
from servers.models import Server
from servers.storage.sizes import human

from .draft import OWN, Draft, OwnDraft, Section, opened
from .layouts import LayoutChoice, choices


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the image with the answer so far, as its field shows it."""

    input: Input
    text: str
    is_kept: bool

    @property
    def field(self) -> str:
        """The field's name, and its error's."""
        return f"input-{self.input.name}"

    @property
    def is_on(self) -> bool:
        """Whether a check box is ticked."""
        return self.text.lower() in ("true", "yes", "on", "1")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a draft means: the rows that it names, and what is wrong with it, by the field's name."""

    image: Image | None = None
    own: OwnImageWish | None = None
    """What the customer brings instead of an image of the catalogue."""
    layouts: tuple[LayoutChoice, ...] = ()
    layout: LayoutChoice | None = None
    hostname: str = ""
    keys: tuple[SSHKey, ...] = ()
    inputs: tuple[Input, ...] = ()
    answers: Answers = field(default_factory=Answers)
    errors: Mapping[Section, Mapping[str, str]] = field(default_factory=dict)

    def is_good(self, section: Section) -> bool:
        """Whether nothing is wrong in a section."""
        return not self.errors.get(section)

    @property
    def preselected(self) -> str:
        """The layout that is ticked: the chosen one as long as it fits, else the one to begin with."""
        if self.layout and (self.layout.is_custom or not self.layout.why):
            return self.layout.name
        return next((one.name for one in self.layouts if one.is_default), "")

    @property
    def is_encrypted(self) -> bool:
        """Whether the chosen layout needs a passphrase."""
        return bool(self.layout and self.layout.layout and self.layout.layout.encrypted)

    @property
    def answered(self) -> tuple[tuple[str, str], ...]:
        """The questions and their answers as the review shows them; of a secret, that there is one."""
        said = {**self.answers.plain, **dict.fromkeys(self.answers.secrets, "given, kept sealed")}
        return tuple((one.label, said.get(one.name, "no answer")) for one in self.inputs)

    def questions(self, draft: Draft) -> tuple[Question, ...]:
        """The questions with what was typed, right or wrong; with their defaults where nothing was."""
        return tuple(
            Question(one, draft.answers.get(one.name, one.default), one.name in draft.secret_answers)
            for one in self.inputs
        )

    def request(self, server: Server, draft: Draft) -> InstallRequest:
        """What is asked for, once all sections are good."""
        assert (self.image or self.own) and self.layout and self.layout.layout
        return InstallRequest(
            server, self.image, self.layout.layout, self.hostname, self.keys, draft.user_data,
            own=self.own, hook=draft.hook, passphrase=draft.given_passphrase, inputs=draft.answers_given,
        )  # fmt: skip


def first_draft(server: Server, keys: Sequence[SSHKey], images: Sequence[Image]) -> Draft:
    """What to offer at first: as the last install was. The layout is left to what fits the image, see `choices`."""
    last = server.installs.order_by("-created_at").first()
    named = {name for name, _ in last.ssh_keys} if last else set()
    chosen = [key for key in keys if key.name in named] or (list(keys) if len(keys) == 1 else [])
    image = last.image_id if last and any(one.pk == last.image_id for one in images) else None
    if image is None and len(images) == 1:
        image = images[0].pk
    return Draft(
        image=str(image or ""),
        hostname=server.name,
        keys=tuple(str(key.pk) for key in chosen),
    )


def check(draft: Draft, server: Server, images: Sequence[Image], keys: Sequence[SSHKey]) -> Checked:
    """What the draft means for this server, of these images and keys; writes nothing."""
    image = next((one for one in images if str(one.pk) == draft.image), None)
    own, wrong = _own(draft.own) if draft.image == OWN else (None, {})
    # what an own image needs of the disks is not known before it was looked into, but for its distribution
    stand_in = unseen_image(own.flavour) if own else None
    layouts = choices(draft, server.facts(), image or stand_in)
    layout = next((one for one in layouts if one.name == draft.layout), None)
    chosen = tuple(key for key in keys if str(key.pk) in draft.keys)
    inputs = _questions(image)
    given = answers(inputs, draft.answers_given)
    hostname, access = _check_access(draft, chosen)
    asked = {f"input-{name}": error for name, error in given.errors.items()}
    return Checked(
        image, own, layouts, layout, hostname, chosen, inputs, given,
        {
            Section.IMAGE: wrong if draft.image == OWN else _check_image(image),
            Section.DISKS: _check_layout(layout) | _check_passphrase(layout, draft),
            Section.ACCESS: access | asked,
        },
    )  # fmt: skip


def _questions(image: Image | None) -> tuple[Input, ...]:
    """What the image asks. The catalogue lets no unsound question in; one that is there all the same is not asked."""
    try:
        return parse_inputs(image.capabilities.get("inputs")) if image else ()
    except InputsRefused:
        return ()


def _own(typed: OwnDraft) -> tuple[OwnImageWish | None, dict[str, str]]:
    """The image that the customer brings, or what is wrong with it, field by field."""
    url, headers = opened(typed.url), opened(typed.headers)
    errors: dict[str, str] = {}
    for name, look in (
        ("own_url", lambda: check_url(url.reveal())),
        ("own_checksum", lambda: check_checksum(typed.checksum)),
        ("own_headers", lambda: check_headers(headers.reveal())),
    ):
        try:
            look()
        except ImageRefused as refused:
            errors[name] = f"{refused.why} {refused.fix}"
    kind = Format(typed.format) if typed.format in set(Format) else None
    if kind is None and "own_url" not in errors:
        kind = claimed_format(file_name(url.reveal()))
    if kind is None and "own_url" not in errors:
        errors["own_format"] = "The address does not end in a format. Choose it."
    if typed.flavour not in FLAVOURS:
        errors["own_flavour"] = "Choose what is in it: that decides how it is made bootable."
    if kind is None or errors:
        return None, errors
    return OwnImageWish(url, typed.checksum, kind, typed.flavour, headers), {}


def _check_image(image: Image | None) -> dict[str, str]:
    if image is None:
        return {"image": "Choose the image that is to be installed."}
    if is_over(image):
        return {"image": f"{image.name} has reached its end of life. Choose a newer version."}
    return {}


def is_over(image: Image) -> bool:
    """Whether nobody mends the image's distribution any more."""
    return life(image.end_of_life, timezone.now().date()) is Life.PAST


def _check_layout(choice: LayoutChoice | None) -> dict[str, str]:
    if choice is None:
        return {"layout": "Choose how the disks are laid out."}
    return {"layout": f"{choice.why} {choice.fix}"} if choice.why else {}


def _check_passphrase(choice: LayoutChoice | None, draft: Draft) -> dict[str, str]:
    if not (choice and choice.layout and choice.layout.encrypted) or draft.passphrase_by != "me":
        return {}
    if not draft.given_passphrase:
        return {"passphrase": "Type the passphrase, or let one be made."}
    try:
        passphrase.check(draft.given_passphrase)
    except PassphraseRefused as refused:
        return {"passphrase": str(refused)}
    return {}


def _check_access(draft: Draft, keys: Sequence[SSHKey]) -> tuple[str, dict[str, str]]:
    errors: dict[str, str] = {}
    hostname = draft.hostname
    try:
        hostname = check_hostname(draft.hostname)
    except MetadataRefused as refused:
        errors["hostname"] = str(refused)
    if not keys:
        errors["ssh_keys"] = "Choose at least one SSH key: without it nobody could log in."
    try:
        check_user_data(draft.user_data)
    except MetadataRefused as refused:
        errors["user_data"] = str(refused)
    try:
        check_hook(draft.hook)
    except ImageRefused as refused:
        errors["hook"] = f"{refused.why} {refused.fix}"
    return hostname, errors


def reviewed(checked: Checked, server: Server, draft: Draft) -> str:
    """A digest of everything that the review has shown: what is confirmed is what was seen, in whatever window."""
    seen = [
        draft.to_json() | {"done": [], "key_line": "", "key_name": "", "custom_before": ""},
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
