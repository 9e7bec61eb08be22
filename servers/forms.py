"""The forms of the inventory: a server, its network cards, and disks entered by hand before anybody has looked."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.forms import BaseFormSet, BaseInlineFormSet, formset_factory, inlineformset_factory

from accounts.secret import Secret
from servers import facts
from servers.models import Disk, Nic, PowerControl, Server
from servers.storage.sizes import MIB, SizeRefused, parse_size

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z", re.ASCII
)
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_SYSTEM: Final = re.compile(r"[\w./~:@%+-]{1,200}", re.ASCII)
_DISK: Final = re.compile(r"/dev/[a-z0-9]+", re.ASCII)
_CARD: Final = re.compile(r"[\w.@-]{1,32}", re.ASCII)
_PORT: Final = "A port is a number from 1 to 65535; SSH's own is 22."
SMALLEST_DISK: Final = 512 * MIB


class ServerForm(forms.ModelForm):  # type: ignore[type-arg]
    """A server. Its BMC password is written, never shown: left blank it stays as it is."""

    new_bmc_password = forms.CharField(
        label="BMC password",
        required=False,
        max_length=200,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    bmc_url = forms.URLField(
        label="BMC address",
        required=False,
        assume_scheme="https",
        help_text="For instance https://192.0.2.40.",
        error_messages={"invalid": "Write the BMC's address: https://192.0.2.40, or https:// and a full name."},
    )

    class Meta:
        model = Server
        fields = [
            "name", "project", "address", "ssh_port", "firmware", "serial",
            "power_driver", "bmc_url", "bmc_system", "bmc_user", "bmc_verify_tls",
        ]  # fmt: skip
        labels = {
            "name": "Host name",
            "ssh_port": "SSH port",
            "serial": "Serial number",
            "power_driver": "Switched on and off",
            "bmc_system": "Redfish system",
            "bmc_user": "BMC user",
            "bmc_verify_tls": "Check the BMC's TLS certificate",
        }
        help_texts = {
            "name": "Fully qualified, for instance web-14.example.net.",
            "address": "Where SSH reaches it once it is installed: an IP address or a name.",
            "firmware": "How it starts. The rescue system compares it.",
            "serial": "As the firmware reports it: where another machine answers, an install stops.",
            "bmc_system": "For instance /redfish/v1/Systems/1. Blank where the BMC has one system.",
            "bmc_verify_tls": "Take the mark away where the BMC signs its own certificate.",
        }
        error_messages = {
            "name": {"unique": "There is a server of this name already."},
            "ssh_port": dict.fromkeys(("invalid", "min_value", "max_value"), _PORT),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        project = self.fields["project"]
        assert isinstance(project, forms.ModelChoiceField)
        project.empty_label = "Choose…"
        self.fields["firmware"].widget = forms.Select(choices=[("", "Choose…"), ("uefi", "UEFI"), ("bios", "BIOS")])
        # asked in SQL: a password that no key opens any more must not keep the form from replacing it
        stored = Server.objects.filter(pk=self.instance.pk).exclude(bmc_password="")
        self.has_password = self.instance.pk is not None and stored.exists()
        kept = " Blank keeps the one that is stored." if self.has_password else ""
        self.fields["new_bmc_password"].help_text = f"Stored sealed, never shown.{kept}"

    def clean_name(self) -> str:
        """The host name in lower case, as RFC 1123 allows it."""
        name = str(self.cleaned_data["name"]).lower()
        if not _HOST.match(name) or name.rpartition(".")[2].isdigit():
            raise ValidationError(
                "That is no host name. Use letters, digits and hyphens, and dots between the parts: web-14.example.net."
            )
        return name

    def clean_address(self) -> str:
        """An IP address, or a name."""
        address = str(self.cleaned_data["address"]).strip().lower()
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            if not _HOST.match(address) or address.rpartition(".")[2].isdigit():
                raise ValidationError("Write an IP address such as 192.0.2.14, or a host name.") from None
        return address

    def clean_ssh_port(self) -> int:
        """A TCP port."""
        port = int(self.cleaned_data["ssh_port"])
        if not 0 < port < 65536:
            raise ValidationError(_PORT)
        return port

    def clean_serial(self) -> str:
        """The serial number; nothing where the vendor never filled it in."""
        return facts.known_serial(self.cleaned_data["serial"])

    def clean_bmc_url(self) -> str:
        """The BMC's address by HTTP, without what belongs into the other fields."""
        url = str(self.cleaned_data["bmc_url"]).rstrip("/")
        if url and not url.startswith(("http://", "https://")):
            raise ValidationError("Begin it with https:// (or http://).")
        if "@" in url:
            raise ValidationError("Leave user and password out of the address: they have fields of their own.")
        return url

    def clean_bmc_system(self) -> str:
        """The path or the id of a Redfish system."""
        system = str(self.cleaned_data["bmc_system"]).strip()
        if system and (not _SYSTEM.fullmatch(system) or ".." in system.split("/")):
            raise ValidationError("Write a Redfish path such as /redfish/v1/Systems/1, or the id alone.")
        return system

    def clean(self) -> dict[str, Any]:
        """The fields; what Redfish needs must be there."""
        data = super().clean() or self.cleaned_data
        if data.get("power_driver") == PowerControl.REDFISH:
            for name, what in (("bmc_url", "the BMC's address"), ("bmc_user", "the BMC's user")):
                if name not in self.errors and not data.get(name):
                    self.add_error(name, f"Redfish needs {what}. Without a BMC, choose “By hand”.")
            if not data.get("new_bmc_password") and not self.has_password:
                self.add_error("new_bmc_password", "Redfish needs the BMC user's password.")
        return data

    def save(self, commit: bool = True) -> Server:
        password = self.cleaned_data["new_bmc_password"]
        if password:
            self.instance.bmc_password = Secret(password)
        if self.instance.pk is None:
            saved: Server = super().save(commit)
            return saved
        # not the other columns: the stored password stays closed, and what the rescue system writes meanwhile stays
        server: Server = self.instance
        server.save(update_fields=[*self.Meta.fields, *(["bmc_password"] if password else [])])
        return server


class NicForm(forms.ModelForm):  # type: ignore[type-arg]
    """A network card."""

    # the column holds 17 characters, yet the same MAC is often pasted with blanks around it
    mac = forms.CharField(label="MAC", max_length=40)

    class Meta:
        model = Nic
        fields = ["mac", "name", "address_cidr", "gateway", "nameservers"]
        labels = {"mac": "MAC", "address_cidr": "Address", "name": "Name"}
        help_texts = {"address_cidr": "192.0.2.14/24; blank for DHCP", "nameservers": "Separated by commas", "name": ""}

    def clean_mac(self) -> str:
        """The MAC in lower case with colons."""
        mac = facts.normal_mac(self.cleaned_data["mac"])
        if not _MAC.fullmatch(mac):
            raise ValidationError("That is no MAC. It has six pairs of hex digits: 52:54:00:12:34:56.")
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise ValidationError("That MAC belongs to no single card. Read it off the card, or the BMC's page.")
        owner = Nic.objects.filter(mac=mac).exclude(pk=self.instance.pk).select_related("server").first()
        if owner:
            raise ValidationError(f"{owner.server.name} has this MAC. No two cards have the same.")
        return mac

    def clean_name(self) -> str:
        """The kernel's name for the card; the config drive tells it to the new system."""
        name = str(self.cleaned_data["name"]).strip()
        if name and not _CARD.fullmatch(name):
            raise ValidationError("Write the kernel's name for the card, such as eno1, or leave it blank.")
        return name

    def clean_address_cidr(self) -> str:
        """An address with the length of its network."""
        text = str(self.cleaned_data["address_cidr"]).strip()
        if not text:
            return ""
        try:
            if "/" not in text:
                raise ValueError
            return str(ipaddress.ip_interface(text))
        except ValueError:
            raise ValidationError("Write the address with its network's length: 192.0.2.14/24.") from None

    def clean_nameservers(self) -> str:
        """Addresses, separated by commas."""
        addresses = [one for one in re.split(r"[\s,;]+", self.cleaned_data["nameservers"]) if one]
        try:
            return ", ".join(str(ipaddress.ip_address(one)) for one in addresses)
        except ValueError:
            raise ValidationError("Write IP addresses, separated by commas: 192.0.2.1, 192.0.2.2.") from None

    def clean(self) -> dict[str, Any]:
        """The fields; a gateway must be in the network."""
        data = super().clean() or self.cleaned_data
        address, gateway = data.get("address_cidr"), data.get("gateway")
        if gateway and "address_cidr" not in self.errors:
            if not address:
                self.add_error(
                    "gateway", "With DHCP the gateway comes from there: give an address, or leave this blank."
                )
            elif ipaddress.ip_address(gateway) not in ipaddress.ip_interface(address).network:
                self.add_error("gateway", f"{gateway} is not in the network of {address}.")
        return data


class NicsFormSet(BaseInlineFormSet):  # type: ignore[type-arg]
    """The network cards of a server: at least one, each MAC once."""

    def clean(self) -> None:
        """Nothing; a server that would have no card is refused: it says who it is by its MAC."""
        super().clean()
        left = [form for form in self.forms if form not in self.deleted_forms and form.cleaned_data.get("mac")]
        if self.instance.pk and not left and not any(self.errors):
            raise ValidationError("Leave at least one card: a server boots, and is recognised, by its MAC.")

    def get_unique_error_message(self, unique_check: Any) -> str:
        return "The same MAC is entered twice. Each card has its own."

    def get_form_error(self) -> str:
        return "This MAC is entered twice."


class DiskForm(forms.Form):
    """A disk as somebody knows it who has not looked: where it is and how large."""

    path = forms.CharField(label="Disk", max_length=64)
    size = forms.CharField(max_length=40)
    serial = forms.CharField(label="Serial number", max_length=100, required=False)
    wwn = forms.CharField(label="WWN", max_length=100, required=False)
    rotational = forms.BooleanField(label="Rotates", required=False)

    def clean_path(self) -> str:
        """The kernel's name for it, with /dev before it."""
        path = str(self.cleaned_data["path"]).strip()
        path = path if path.startswith("/dev/") else f"/dev/{path}"
        if not _DISK.fullmatch(path):
            raise ValidationError("Write the kernel's name for the disk, such as sda or nvme0n1.")
        return path

    def clean_size(self) -> int:
        """Bytes."""
        try:
            size = parse_size(self.cleaned_data["size"])
        except SizeRefused as refusal:
            raise ValidationError(str(refusal)) from refusal
        if not SMALLEST_DISK <= size < 1 << 56:
            raise ValidationError("No disk is that size. Write it as on its label, such as 960 GB.")
        # a disk ends with a whole sector, and every sector's length divides 4 KiB
        return size // 4096 * 4096

    def fact(self) -> facts.Disk:
        """The disk as the planner takes it, until the rescue system has seen it."""
        data = self.cleaned_data
        return facts.Disk(
            path=data["path"], size=data["size"], rotational=data["rotational"], serial=data["serial"], wwn=data["wwn"]
        )


class DisksFormSet(BaseFormSet):  # type: ignore[type-arg]
    """The disks entered by hand, each path once."""

    def clean(self) -> None:
        """Nothing; the second disk of one path gets an error."""
        seen: set[str] = set()
        for form in self.filled:
            path = form.cleaned_data["path"]
            if path in seen:
                form.add_error("path", f"{path} is entered twice.")
            seen.add(path)

    @property
    def filled(self) -> list[DiskForm]:
        """The rows that name a disk and are not marked for removal."""
        rows = [form for form in self.forms if getattr(form, "cleaned_data", {}).get("path") and form.is_valid()]
        return [form for form in rows if not form.cleaned_data.get("DELETE")]

    def save(self, server: Server) -> None:
        """Puts these disks in place of those that are stored."""
        server.disks.all().delete()
        found = [form.fact() for form in self.filled]
        Disk.objects.bulk_create(
            Disk(server=server, path=one.path, size=one.size, detail=facts.disk_to_json(one)) for one in found
        )


def nics_formset(server: Server, data: Mapping[str, Any] | None) -> NicsFormSet:
    """The cards of the server and a blank row; of a new one, three rows, the first of which must be filled."""
    kind = inlineformset_factory(
        Server, Nic, form=NicForm, formset=NicsFormSet, extra=1 if server.pk else 2, min_num=0 if server.pk else 1,
        max_num=32, absolute_max=32, validate_max=True,
    )  # fmt: skip
    formset = kind(data, instance=server, prefix="nics")
    assert isinstance(formset, NicsFormSet)
    return formset


def disks_formset(server: Server, data: Mapping[str, Any] | None) -> DisksFormSet | None:
    """The disks of a server that nobody has looked into, and blank rows; None once the rescue system has seen them."""
    if server.facts_at:
        return None
    known = [disk.fact() for disk in server.disks.all()] if server.pk else []
    initial = [
        {"path": one.path, "size": f"{one.size} B", "serial": one.serial, "wwn": one.wwn, "rotational": one.rotational}
        for one in known
    ]
    kind = formset_factory(
        DiskForm, formset=DisksFormSet, extra=1 if known else 2, can_delete=True, max_num=64, absolute_max=64
    )
    formset = kind(data, prefix="disks", initial=initial)
    assert isinstance(formset, DisksFormSet)
    return formset
