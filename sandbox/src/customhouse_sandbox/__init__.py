"""Strict stand-ins for the providers that Customhouse connects, on one port of this machine. Imports nothing of Customhouse."""

from customhouse_sandbox.faults import FaultKind as FaultKind
from customhouse_sandbox.faults import Operation as Operation
from customhouse_sandbox.sandbox import PUBLIC_URL as PUBLIC_URL
from customhouse_sandbox.sandbox import Call as Call
from customhouse_sandbox.sandbox import Sandbox as Sandbox
from customhouse_sandbox.sandbox import random_seed as random_seed
from customhouse_sandbox.serving import running as running
from customhouse_sandbox.state import End as End
from customhouse_sandbox.state import Kind as Kind
