"""Notices to users: an inbox, and an e-mail that says that something is there."""
