"""Disks as arithmetic: a layout and the facts of a machine in, a plan out; nothing here touches a disk.

`layout` is what is wanted, `planner.plan` decides, `plan` holds the values, `render` makes commands of them and `draw`
a drawing.
"""
