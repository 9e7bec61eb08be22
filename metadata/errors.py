"""The one root of everything that metadata/ refuses."""


class MetadataRefused(ValueError):
    """Something a customer or an operator gave cannot go to a machine; `why` is a sentence that says what to change."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
