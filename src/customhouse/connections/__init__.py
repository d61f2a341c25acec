"""Connections that a person consents to: from the invitation to a sealed grant, and the end of grants that may not be kept."""
