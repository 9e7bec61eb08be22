"""Turns an image once into what the mirror serves: its tree of files as one compressed, checksummed stream."""
