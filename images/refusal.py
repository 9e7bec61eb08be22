"""The one error of an image that cannot be taken."""


class ImageRefused(Exception):
    """A file that does not become an image; the text is what is wrong with it, and what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(f"{why} {fix}")
        self.why = why
        self.fix = fix
