"""What a server's name in an address may look like: nothing else reaches a view, or the database."""


class HostName:
    """A host name; `{% url "server" name %}` and `<hostname:name>`."""

    regex = "[A-Za-z0-9][A-Za-z0-9.-]{0,252}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value
