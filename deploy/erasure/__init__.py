"""Secure erase: `eraser` runs on the rescue system and destroys what is on disks; the wipe step starts it."""
