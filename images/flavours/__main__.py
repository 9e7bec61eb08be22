"""`python -m images.flavours > docs/flavours.md`: writes the page of all flavours."""

from .page import page

if __name__ == "__main__":
    print(page(), end="")
