"""PII guardrails: what an event may carry out of the house.

`policy` says what is allowed, `declaration` what an event type declares, `fields` which names mean a person, `detectors` what a value
gives away, `inspect` applies all four before anything is stored. Pure: no I/O, no clock, no settings.
"""
