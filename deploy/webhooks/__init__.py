"""Webhooks: addresses of a project that are told when an install has ended, again and again until they answer.

`outbox` stores what is to be told, in the transaction of the event; `sender`, a thread of each worker, sends it through
`delivery`, to addresses that `targets` lets pass.
"""
