"""The forms of the catalogue and of the licences."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from django import forms

from accounts.secret import Secret
from images.capabilities import FILESYSTEMS, with_said
from images.catalogue import flavour_title
from images.checksums import check_checksum
from images.flavours import FLAVOURS
from images.inputs import InputsRefused, parse_inputs, read_inputs
from images.models import Image, ImageState, Licence, LicenceKind
from images.refusal import ImageRefused
from images.store import is_url
from servers.storage.layout import Raid

_ORGANISATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def flavour_choices() -> list[tuple[str, str]]:
    """Every flavour that Landfall can make bootable, by its title."""
    return [("", "Choose…"), *((name, flavour_title(name)) for name in sorted(FLAVOURS))]


class DescribeForm(forms.ModelForm):  # type: ignore[type-arg]
    """What people say of an image; what its file says is not theirs to change."""

    flavour = forms.ChoiceField(choices=flavour_choices, help_text="How it is made bootable.")
    filesystems = forms.MultipleChoiceField(
        label="File systems",
        required=False,
        choices=[(one.value, one.value) for one in FILESYSTEMS],
        widget=forms.CheckboxSelectMultiple,
        help_text="Those that its root may lie on. None ticked: those that its flavour can.",
    )
    raid = forms.MultipleChoiceField(
        label="RAID levels",
        required=False,
        choices=[(one.value, one.value.upper()) for one in Raid],
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: all of them.",
    )
    lacks = forms.MultipleChoiceField(
        label="What it lacks",
        required=False,
        choices=[("mdadm", "mdadm: no RAID at all"), ("lvm2", "lvm2: no LVM")],
        widget=forms.CheckboxSelectMultiple,
        help_text="A layout that needs it is refused before anything is erased.",
    )
    inputs = forms.CharField(
        label="Questions",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="What a customer answers before the install, as JSON: a list of questions with name, type, default, "
        "mandatory, choices and help. Blank asks nothing.",
    )

    class Meta:
        model = Image
        fields = ["name", "flavour", "licence", "end_of_life", "project"]
        labels = {"end_of_life": "End of life", "project": "For one project alone"}
        help_texts = {
            "name": "As customers read it, for instance Debian 12.",
            "end_of_life": "When its distribution stops mending it. From that day on it cannot be installed.",
            "licence": "Where the distribution wants to be registered.",
            "project": "Blank offers it to everybody.",
        }
        widgets = {"end_of_life": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, empty in (("licence", "None needed"), ("project", "Everybody")):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.empty_label = empty
        self.initial = {**_said(self.instance.capabilities), **self.initial}

    @property
    def tick_boxes(self) -> list[forms.BoundField]:
        """The fields that are several boxes to tick."""
        return [self[name] for name in ("filesystems", "raid", "lacks")]

    def clean_inputs(self) -> list[dict[str, Any]]:
        """The questions as they are kept; what is wrong with each is said by its number and name."""
        try:
            return [one.to_json() for one in read_inputs(self.cleaned_data["inputs"])]
        except InputsRefused as refused:
            raise forms.ValidationError(list(refused.errors)) from refused

    def clean_name(self) -> str:
        """A name that no other image of the catalogue has."""
        name = str(self.cleaned_data["name"])
        if Image.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("There is an image of this name already.", code="unique")
        return name

    def clean(self) -> dict[str, Any]:
        """The fields; a flavour that must be registered needs a licence."""
        data = super().clean() or self.cleaned_data
        flavour = FLAVOURS.get(data.get("flavour", ""))
        if flavour and flavour.licence and not data.get("licence") and "licence" not in self.errors:
            self.add_error(
                "licence",
                f"{flavour.title} has to be registered: choose a licence, or one of the kind “bring your own”.",
            )
        if data.get("raid") and "mdadm" in data.get("lacks", ()):
            self.add_error("raid", "Without mdadm there is no RAID: tick no level, or say that it has mdadm.")
        return data

    def save(self, commit: bool = True) -> Image:
        """The image, with what was said of it in place of what was said before."""
        data = self.cleaned_data
        said: dict[str, Any] = {name: data[name] for name in ("filesystems", "raid", "inputs") if data[name]}
        if "mdadm" in data["lacks"]:
            said["raid"] = []
        if "lvm2" in data["lacks"]:
            said["lvm"] = False
        self.instance.capabilities = with_said(self.instance.capabilities, said)
        image: Image = super().save(commit)
        return image


def _said(capabilities: dict[str, Any]) -> dict[str, Any]:
    """What the form shows of the capabilities of an image."""
    raid = capabilities.get("raid", True)
    lacks = [
        *(["mdadm"] if raid is not True and not raid else []),
        *(["lvm2"] if capabilities.get("lvm") is False else []),
    ]
    try:
        inputs = [one.to_json() for one in parse_inputs(capabilities.get("inputs"))]
    except InputsRefused:
        inputs = capabilities["inputs"]  # shown as it is: whoever saves it has to mend it
    return {
        "filesystems": capabilities.get("filesystems", []),
        "raid": [] if raid is True else list(raid or ()),
        "lacks": lacks,
        "inputs": json.dumps(inputs, indent=2, ensure_ascii=False) if inputs else "",
    }


class ImageForm(DescribeForm):
    """An image of the catalogue: it does not become a customer's own."""

    state = forms.ChoiceField(choices=[choice for choice in ImageState.choices if choice[0] != ImageState.OWN])

    class Meta(DescribeForm.Meta):
        fields = [*DescribeForm.Meta.fields, "state"]


def _check_address(source: str) -> None:
    """ValidationError for an address that cannot be fetched whatever answers there."""
    if not all("!" <= char <= "~" for char in source):
        raise forms.ValidationError(
            "An address has no spaces and ASCII alone: write %20 for a space, and names as xn--…, in ASCII."
        )
    try:
        parts = urlsplit(source)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise forms.ValidationError("Host or port of this address cannot be read: look for a typing mistake.") from None
    if not host:
        raise forms.ValidationError("This address names no host: https://cloud.example/image.qcow2.")


class SourceForm(forms.Form):
    """Where a new image comes from, and what its SHA-256 must be."""

    source = forms.CharField(
        label="Path or URL",
        max_length=1000,
        help_text="A file on the machine that Landfall runs on, or an address that begins with https:// (or http://).",
    )
    checksum = forms.CharField(
        label="SHA-256 or SHA-512",
        max_length=300,
        help_text="As the one who made the image publishes it, or sha256sum prints it.",
    )

    def clean_source(self) -> str:
        """An absolute path, or a URL by HTTP."""
        source = str(self.cleaned_data["source"]).strip()
        if not source.startswith(("/", "http://", "https://")) or not source.isprintable():
            raise forms.ValidationError("Begin a path with /, and an address with https:// (or http://).")
        if is_url(source):
            _check_address(source)
        return source

    def clean_checksum(self) -> str:
        """The checksum as it is kept, sha256:… or sha512:…."""
        try:
            return check_checksum(self.cleaned_data["checksum"])
        except ImageRefused as refused:
            raise forms.ValidationError(str(refused)) from refused


class LicenceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A licence. Its activation key is written, never shown: left blank it stays as it is."""

    new_activation_key = forms.CharField(
        label="Activation key",
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Licence
        fields = ["name", "kind", "organisation"]
        help_texts = {"organisation": "The number that Red Hat gave yours; blank for bring your own."}
        error_messages = {"name": {"unique": "There is a licence of this name already."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # asked in SQL: a key that cannot be unsealed any more must not keep the form from replacing it
        stored = Licence.objects.filter(pk=self.instance.pk).exclude(activation_key="")
        self.has_key = self.instance.pk is not None and stored.exists()
        kept = " Blank keeps the one that is stored." if self.has_key else ""
        self.fields["new_activation_key"].help_text = f"Stored sealed, never shown.{kept}"

    def clean_organisation(self) -> str:
        """A number, or the label that an organisation has on one's own server for subscriptions."""
        organisation = str(self.cleaned_data["organisation"])
        if organisation and not _ORGANISATION.fullmatch(organisation):
            raise forms.ValidationError("An organisation is a number, or a label of letters, digits, - and _.")
        return organisation

    def clean_new_activation_key(self) -> str:
        """A key of one line."""
        key = str(self.cleaned_data["new_activation_key"])
        if not key.isprintable():
            raise forms.ValidationError("An activation key has one line: copy it anew.")
        return key

    def clean(self) -> dict[str, Any]:
        """The fields; Red Hat's registration needs organisation and key."""
        data = super().clean() or self.cleaned_data
        if data.get("kind") == LicenceKind.RHEL:
            if not data.get("organisation") and "organisation" not in self.errors:
                self.add_error(
                    "organisation", "Registration needs the organisation's number. Its admin finds it at Red Hat."
                )
            if not data.get("new_activation_key") and not self.has_key and "new_activation_key" not in self.errors:
                self.add_error("new_activation_key", "Registration needs an activation key of that organisation.")
        return data

    def save(self, commit: bool = True) -> Licence:
        key = self.cleaned_data["new_activation_key"]
        if key:
            self.instance.activation_key = Secret(key)
        if self.instance.pk is None:
            saved: Licence = super().save(commit)
            return saved
        licence: Licence = self.instance
        licence.save(update_fields=[*self.Meta.fields, *(["activation_key"] if key else [])])
        return licence
