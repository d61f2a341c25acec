"""Microsoft's identity platform and Graph, imitated (§6 of the providers' facts)."""

from customhouse_sandbox.microsoft.vendor import VENDOR as VENDOR
