"""The contract that every provider signs, the built-in ones and an operator's own alike."""
