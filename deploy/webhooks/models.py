"""The tables of the webhooks: who wants to be told, and what is told to them."""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse

from accounts.models import Project
from accounts.sealing import SealedField


class Webhook(models.Model):
    """An address of a project that is told when one of its installs has ended."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    secret = SealedField(help_text="what deliveries are signed with: whsec_ and base64")
    # After a change both sign, so that a receiver can be given the new one without losing a delivery.
    previous_secret = SealedField(blank=True, default="")
    previous_until = models.DateTimeField(null=True, blank=True)
    active = models.BooleanField(default=True)
    switched_off_because = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "url"], name="one_webhook_per_address_and_project"),
        ]

    def __str__(self) -> str:
        return self.url

    def get_absolute_url(self) -> str:
        return reverse("webhook", args=[self.project.slug, self.pk])


class Delivery(models.Model):
    """One thing that one webhook is told. The row is also the queue: `next_at` says when it is to be sent.

    Taking it for sending moves `next_at` on and counts the attempt, in one UPDATE that only one process wins; if that
    process dies, the time comes, and the delivery is sent once more. It has none when it is delivered or given up.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False, help_text="the receiver's webhook-id")
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    install = models.ForeignKey(
        "deploy.Install", on_delete=models.CASCADE, null=True, related_name="deliveries", help_text="null: a test"
    )
    seq = models.PositiveIntegerField(null=True, help_text="of the event that ended the install")
    kind = models.CharField(max_length=40, help_text="install.succeeded, ping, ...")
    payload = models.TextField(help_text="the body, byte for byte: every attempt sends the same")
    created_at = models.DateTimeField()

    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    given_up_at = models.DateTimeField(null=True, blank=True)
    last_at = models.DateTimeField(null=True, blank=True)
    last_status = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True, default="")
    last_answer = models.CharField(max_length=200, blank=True, default="", help_text="how the answer's body begins")

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["webhook", "install", "seq"], name="one_delivery_per_event_and_webhook"),
        ]
        indexes = [
            # The sender's question, every second: what is due?
            models.Index(fields=["next_at"], condition=models.Q(next_at__isnull=False), name="delivery_due"),
            # The page's question: what was told to this webhook last?
            models.Index(fields=["webhook", "-created_at"], name="delivery_of_a_webhook"),
            # What those who watch Landfall ask: is anything lost?
            models.Index(
                fields=["given_up_at"], condition=models.Q(given_up_at__isnull=False), name="delivery_given_up"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.webhook_id}"

    @property
    def status(self) -> str:
        """Where it stands: delivered, given-up, retrying or due."""
        if self.delivered_at:
            return "delivered"
        if self.given_up_at:
            return "given-up"
        return "retrying" if self.attempts else "due"
