"""Several processes of the service on one machine: the lean parent that starts them, replaces those that die, and ends with them.

It imports the standard library, the settings and the embedded server alone: its resident memory counts with that of its children.
"""
