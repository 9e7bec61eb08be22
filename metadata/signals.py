"""The one signal by which a lower layer tells an upper one."""

from django.dispatch import Signal

machine_called = Signal()
"""A machine has called, and its token is now used.

Sent inside the request's transaction with `install` (UUID), `server` (Server), `call` ("ready" or "phone-home") and
`payload` (dict, its fields checked). A receiver that raises undoes everything: the machine gets 503 and calls again.
"""
