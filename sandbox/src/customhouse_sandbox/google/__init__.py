"""Google, imitated (§3 of the providers' facts): one authorization server; Meet, Calendar, Gmail and Drive."""

from customhouse_sandbox.google.vendor import VENDOR as VENDOR
