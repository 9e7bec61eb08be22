"""The rescue system: the recipe that builds it and the small service that runs inside it."""
