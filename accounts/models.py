"""Who works with Landfall: people, the projects they belong to, and the SSH keys of a project."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import RegexValidator
from django.db import models


class Role(models.TextChoices):
    """What a person is to Landfall. Each role may do what the one before it may."""

    CUSTOMER = "customer", "Customer: sees and reinstalls the servers of the own projects"
    OPS = "ops", "Ops: sees every install, live; cancels and retries"
    ADMIN = "admin", "Admin: image catalogue, licences, inventory, people"


class People(UserManager["User"]):
    """Makes accounts; `manage.py createsuperuser` makes an admin."""

    use_in_migrations = False

    def create_superuser(self, *args: Any, **fields: Any) -> "User":
        return super().create_superuser(*args, **{"role": Role.ADMIN, **fields})


class User(AbstractUser):
    """A person. The role alone says what one may do; Django's staff flag, groups and permissions are not used."""

    role = models.CharField(max_length=10, choices=Role.choices, default=Role.CUSTOMER)

    objects: ClassVar[People] = People()

    @property
    def is_ops(self) -> bool:
        """Whether this person sees every project."""
        return self.role in (Role.OPS, Role.ADMIN)

    @property
    def is_admin(self) -> bool:
        """Whether this person keeps catalogue, licences, inventory and people."""
        return self.role == Role.ADMIN

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Whether the pages under people/ let this person in: every right there follows from the role."""
        return self.is_active and self.is_admin

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_admin


class Project(models.Model):
    """The tenant: owns servers, keys and installs. Its slug is the `project_id` in the metadata."""

    name = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    members = models.ManyToManyField(User, through="Membership", related_name="projects")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's right to see and reinstall the servers of a project."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project"], name="one_membership_per_person_and_project")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"


class SSHKey(models.Model):
    """A public key that a project's people log in with; `accounts.sshkeys` has checked it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="ssh_keys")
    name = models.CharField(
        max_length=64, validators=[RegexValidator(r"^[\w.@ -]+$", "Letters, digits, spaces and . @ - _ only.")]
    )
    public_key = models.TextField()
    key_type = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            # cloud-init takes the keys as a table by name: two of one name would be one key.
            models.UniqueConstraint(fields=["project", "name"], name="one_key_per_name_and_project"),
            models.UniqueConstraint(fields=["project", "fingerprint"], name="one_entry_per_key_and_project"),
        ]

    def __str__(self) -> str:
        return self.name
