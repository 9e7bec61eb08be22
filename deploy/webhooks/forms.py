"""The form that adds a webhook."""

from typing import Any

from django import forms

from accounts.models import Project

from . import targets
from .models import Webhook

MOST = 10
"""Webhooks of one project: each of them is told of every install."""


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    """The address that is to be told; refused with a sentence when nothing may be sent there."""

    url = forms.CharField(
        label="Address",
        max_length=targets.LONGEST,
        help_text="It gets a signed POST when an install of this project has succeeded, failed or been cancelled.",
    )

    class Meta:
        model = Webhook
        fields = ["url"]

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.project = project

    def clean_url(self) -> str:
        """The address, which is not looked up yet: that is done before each delivery."""
        url: str = self.cleaned_data["url"]
        others = Webhook.objects.filter(project=self.instance.project)
        try:
            targets.check(url)
        except targets.TargetRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        if others.filter(url=url).exists():
            raise forms.ValidationError("This address is told already: it is in the list.")
        if others.count() >= MOST:
            raise forms.ValidationError(f"A project has {MOST} webhooks at most: delete one first.")
        return url
