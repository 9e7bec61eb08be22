"""A person at the reinstall page of a server."""

import re
from html import unescape
from typing import Any

from django.test import Client

from accounts.models import SSHKey
from images.models import Image
from servers.models import Server
from tests.deploy.test_install_page import text


class Visit:
    """Somebody at the reinstall page of a server, clicking as a browser without scripts does."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server, self.client = server, client
        self.url = f"/servers/{server.name}/reinstall/"
        self.html = client.get(self.url).content.decode()

    def submit(self, go: str, **fields: Any) -> Any:
        """Presses a button of the open section; the page behind it."""
        section = re.search(r'name="section" value="(\w+)"', self.html)
        reviewed = re.search(r'name="reviewed" value="(\w+)"', self.html)
        data = {"section": section[1] if section else "", "go": go, **fields}
        if reviewed:
            data.setdefault("reviewed", reviewed[1])
        response = self.client.post(self.url, data, follow=True)
        self.html = response.content.decode()
        return response

    @property
    def open(self) -> str:
        """The section that is open."""
        found = re.search(r'name="section" value="(\w+)"', self.html)
        assert found
        return found[1]

    @property
    def words(self) -> str:
        return text(self.html.encode())

    def to_review(self, image: Image, key: SSHKey, **access: Any) -> None:
        """Goes through the sections with what is sensible."""
        self.submit("next", image=image.pk)
        self.submit("next", layout="raid1", swap="0")
        self.submit("next", **({"hostname": self.server.name, "keys": [key.pk]} | access))

    def erase(self, name: str = "") -> Any:
        """Types the name, and presses the last button."""
        return self.submit("erase", confirm=name or self.server.name)

    def value(self, name: str) -> str:
        """What stands in a text field or a text area."""
        found = re.search(rf'<textarea [^>]*name="{name}"[^>]*>\n?(.*?)</textarea>', self.html, re.DOTALL)
        found = found or re.search(rf'<input [^>]*name="{name}"[^>]* value="([^"]*)"', self.html)
        return unescape(found[1]) if found else ""

    def error(self, name: str) -> str:
        """What is wrong with a field."""
        found = re.search(rf'id="error-{name}".*?<span>(.*?)</span></p>', self.html, re.DOTALL)
        return text(found[1].encode()) if found else ""

    def draw(self, **fields: Any) -> str:
        """What comes back while somebody types a layout: words alone."""
        response = self.client.post(f"{self.url}layout/", {"layout": "custom", **fields})
        assert response.status_code == 200
        return text(response.content)
