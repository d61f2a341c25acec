"""Pipedrive, imitated (§8.4 of the providers' facts): scopes fixed at the registration, people of a company, unsigned webhooks."""

from customhouse_sandbox.pipedrive.vendor import VENDOR as VENDOR
