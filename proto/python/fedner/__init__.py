"""Looks at a fedner coordinator and controls its runs.

>>> coordinator = Coordinator.from_directory("/srv/fedner")
>>> for run in coordinator.runs():
...     print(run.name, run.state, run.f1)
"""

from .client import Coordinator, Refused
from .views import Event, Explanation, Institution, Member, Run, Version

__all__ = [
    "Coordinator",
    "Event",
    "Explanation",
    "Institution",
    "Member",
    "Refused",
    "Run",
    "Version",
]
