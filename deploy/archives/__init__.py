"""Histories and logs outside of the database: signed files, how they are written and proved, and who is moved there."""
