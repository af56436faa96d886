"""Tracing: how a pure function becomes a program."""

from funcnet.tracing.functions import attempt as attempt
from funcnet.tracing.functions import whole as whole
from funcnet.tracing.program import Program as Program
from funcnet.tracing.recorder import NotTraceable as NotTraceable
from funcnet.tracing.recorder import Opaque as Opaque
from funcnet.tracing.recorder import recording as recording
