"""The keys of every tenant: made, kept for a short time, handed out, destroyed."""

from customhouse.vault.deeds import KeyDeed, KeyEvent, Witness
from customhouse.vault.keyring import Keyring
from customhouse.vault.vault import Vault

__all__ = ["KeyDeed", "KeyEvent", "Keyring", "Vault", "Witness"]
