"""The pages about installs: what is drawn from the rows, and the few buttons that append to them."""
