"""The forms about people: each says what is wrong in a sentence that also says what to do."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm

from accounts.models import Project, SSHKey
from accounts.sshkeys import KeyRefused, PublicKey, parse_public_key


class LoginForm(AuthenticationForm):
    """Name and password; it does not say which of the two was wrong."""

    error_messages = {
        "invalid_login": "Name and password do not belong together. Both are case-sensitive; try again.",
        "inactive": "This account is switched off. Ask an admin to switch it on.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"


class PasswordForm(PasswordChangeForm):
    """The old password and twice the new one."""

    error_messages = PasswordChangeForm.error_messages | {
        "password_incorrect": "That is not your present password. Type it again.",
        "password_mismatch": "The two new passwords differ. Type both again.",
    }


class SSHKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A public key as `ssh-keygen` writes it; type and fingerprint are read from it."""

    public_key = forms.CharField(
        label="Public key",
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="The line in ~/.ssh/id_ed25519.pub, from ssh-ed25519 to the end.",
    )
    name = forms.CharField(max_length=64, required=False, help_text="What you call it; blank takes the key's comment.")

    class Meta:
        model = SSHKey
        fields = ["public_key", "name"]

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project
        self.parsed: PublicKey | None = None

    def clean_public_key(self) -> str:
        """The key as one line without its comment."""
        try:
            self.parsed = parse_public_key(self.cleaned_data["public_key"])
        except KeyRefused as refusal:
            if "PRIVATE KEY" in self.cleaned_data["public_key"]:
                # it is not sent back into the page, where it would stay in the browser's history
                self.data = dict(self.data.items()) | {self.add_prefix("public_key"): ""}
            raise forms.ValidationError(str(refusal)) from refusal
        return self.parsed.line

    def clean(self) -> dict[str, Any]:
        """The fields, with the key's comment in place of a missing name; refused when the project has key or name."""
        data = super().clean() or self.cleaned_data
        if not self.parsed:
            return data
        data["name"] = data.get("name") or self.parsed.comment[:64] or self.parsed.key_type
        twin = self._others().filter(fingerprint=self.parsed.fingerprint).first()
        if twin:
            self.add_error("public_key", f"{self.instance.project} has this key already: it is called {twin.name}.")
        elif self._others().filter(name=data["name"]).exists():
            self.add_error("name", f"{self.instance.project} has a key named {data['name']}. Choose another name.")
        return data

    def save(self, commit: bool = True) -> SSHKey:
        assert self.parsed is not None, "an invalid form is not saved"
        self.instance.key_type = self.parsed.key_type
        self.instance.fingerprint = self.parsed.fingerprint
        saved: SSHKey = super().save(commit)
        return saved

    def _others(self) -> Any:
        return SSHKey.objects.filter(project=self.instance.project)
