"""`python -m deploy.errors > docs/errors.md`: writes the page of all failures."""

from .page import page

if __name__ == "__main__":
    print(page(), end="")
