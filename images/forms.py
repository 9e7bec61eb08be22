"""The forms of the catalogue and of the licences."""

import re
from typing import Any

from django import forms

from accounts.secret import Secret
from images.catalogue import flavour_title
from images.flavours import FLAVOURS
from images.models import Image, Licence, LicenceKind


def flavour_choices() -> list[tuple[str, str]]:
    """Every flavour that Landfall can make bootable, by its title."""
    return [("", "Choose…"), *((name, flavour_title(name)) for name in sorted(FLAVOURS))]


class DescribeForm(forms.ModelForm):  # type: ignore[type-arg]
    """What people say of an image; what its file says is not theirs to change."""

    flavour = forms.ChoiceField(choices=flavour_choices, help_text="How it is made bootable.")

    class Meta:
        model = Image
        fields = ["name", "flavour", "licence", "end_of_life", "project"]
        labels = {"end_of_life": "Mended until", "project": "For one project alone"}
        help_texts = {
            "name": "As customers read it, for instance Debian 12.",
            "end_of_life": "The day its distribution stops mending it: 2028-06-30. After it, it cannot be installed.",
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

    def clean(self) -> dict[str, Any]:
        """The fields; a flavour that must be registered needs a licence."""
        data = super().clean() or self.cleaned_data
        flavour = FLAVOURS.get(data.get("flavour", ""))
        if flavour and flavour.licence and not data.get("licence") and "licence" not in self.errors:
            self.add_error(
                "licence",
                f"{flavour.title} has to be registered: choose a licence, or one of the kind “bring your own”.",
            )
        return data


class ImageForm(DescribeForm):
    """An image of the catalogue."""

    class Meta(DescribeForm.Meta):
        fields = [*DescribeForm.Meta.fields, "state"]


class SourceForm(forms.Form):
    """Where a new image comes from, and what its SHA-256 must be."""

    source = forms.CharField(
        label="Path or URL",
        max_length=1000,
        help_text="A file on the machine that Landfall runs on, or an address that begins with https:// (or http://).",
    )
    sha256 = forms.CharField(
        label="SHA-256", max_length=200, help_text="As the one who made the image publishes it, or sha256sum prints it."
    )

    def clean_source(self) -> str:
        """An absolute path, or a URL by HTTP."""
        source = str(self.cleaned_data["source"]).strip()
        if not source.startswith(("/", "http://", "https://")) or not source.isprintable():
            raise forms.ValidationError("Begin a path with /, and an address with https:// (or http://).")
        return source

    def clean_sha256(self) -> str:
        """The 64 hexadecimal digits in lower case; what sha256sum prints behind them is left out."""
        digits = (str(self.cleaned_data["sha256"]).lower().removeprefix("sha256:").split() or [""])[0]
        if not re.fullmatch(r"[0-9a-f]{64}", digits):
            raise forms.ValidationError("A SHA-256 has 64 hexadecimal digits, as sha256sum prints them.")
        return digits


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # asked in SQL: a key that cannot be unsealed any more must not keep the form from replacing it
        stored = Licence.objects.filter(pk=self.instance.pk).exclude(activation_key="")
        self.has_key = self.instance.pk is not None and stored.exists()
        kept = " Blank keeps the one that is stored." if self.has_key else ""
        self.fields["new_activation_key"].help_text = f"Stored sealed, never shown.{kept}"

    def clean(self) -> dict[str, Any]:
        """The fields; Red Hat's registration needs organisation and key."""
        data = super().clean() or self.cleaned_data
        if data.get("kind") == LicenceKind.RHEL:
            if not data.get("organisation") and "organisation" not in self.errors:
                self.add_error(
                    "organisation", "Registration needs the organisation's number. Its admin finds it at Red Hat."
                )
            if not data.get("new_activation_key") and not self.has_key:
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
