"""What runs inside the rescue system; standard library alone, and never imported by the controller."""
