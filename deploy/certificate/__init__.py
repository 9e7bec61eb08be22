"""The read-back certificate: what is really on the disks after an install, compared with the plan, finding by finding.

`probe` runs on the rescue system and prints what is there; `compare` sets it beside the plan; `finding` are the values
that are stored and shown.
"""

from .compare import before_reboot, is_another_system, running_system, wanted
from .finding import TOPICS, Certificate, Finding

__all__ = ["TOPICS", "Certificate", "Finding", "before_reboot", "is_another_system", "running_system", "wanted"]
