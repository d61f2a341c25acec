"""Google Calendar: upcoming sessions, and in act mode the sessions that we made ourselves."""

from __future__ import annotations

from typing import Final

from customhouse.providers import google
from customhouse.providers.manifest import Allowance, Flow, Implied, Never, Provider, Scope
from customhouse.providers.vocabulary import Mode, Risk

_EVENTS: Final = f"{google.AUTH}calendar.events"

PROVIDER: Final = Provider(
    id="google-calendar",
    name="Google Calendar",
    purpose="Session scheduling, reminders",
    risk=Risk.MEDIUM,
    risk_why="schedule data",
    version=1,
    hosts=google.HOSTS,
    endpoints=google.endpoints("https://www.googleapis.com/calendar/v3"),
    auth=google.OAUTH2,
    scopes=(
        *google.IDENTITY_SCOPES,
        Scope(
            f"{_EVENTS}.owned.readonly",
            words="see the events on calendars that you own",
            why="Reads upcoming sessions, from your primary calendar only.",
            reaches="titles, times, places and guests of your events",
            spec="calendar.events.readonly",
            narrowed=True,
        ),
        Scope(
            f"{_EVENTS}.owned",
            words="make and change events on calendars that you own",
            why="Makes and moves coaching sessions, each one after a person has approved it; events that we did not make stay as they are.",
            reaches="titles, times, places and guests of your events",
            mode=Mode.ACT,
            spec="calendar.events",
            writes=True,
        ),
    ),
    not_requested=(
        Never(f"{google.AUTH}calendar", "It would open everything about all of your calendars.", named=True),
        Never(f"{google.AUTH}calendar.readonly", "It would open calendars of others that you can see.", named=True),
        Never(f"{google.AUTH}calendar.calendars*", "It would let us make, change or delete whole calendars."),
        Never(f"{google.AUTH}calendar.calendarlist*", "It would show which other calendars you follow.", named=True),
        Never(f"{google.AUTH}calendar.acls*", "It would let us share your calendar with others."),
        Never(f"{google.AUTH}calendar.settings*", "Your settings are not needed."),
    ),
    flows=(
        Flow("in", "Title, time, place and guests of events on your primary calendar"),
        Flow("out", "In act mode: sessions that we make or move, each after approval"),
        Flow("in", "Your e-mail address and account number at Google"),
    ),
    register=google.register("Google Calendar API"),
    modes=(Mode.OBSERVE, Mode.ACT),
    # The primary calendar alone. Changing an event is no call of the proxy's: only those that we made may be changed.
    allow=(
        Allowance("GET", "/calendars/primary/events", f"{_EVENTS}.owned.readonly"),
        Allowance("GET", "/calendars/primary/events/{event}", f"{_EVENTS}.owned.readonly"),
        Allowance("POST", "/calendars/primary/events", f"{_EVENTS}.owned", approval=True),
    ),
    implied=(
        Implied(f"{_EVENTS}.owned", (f"{_EVENTS}.owned.readonly",)),
        Implied(f"{_EVENTS}.readonly", (f"{_EVENTS}.owned.readonly",)),
        Implied(_EVENTS, (f"{_EVENTS}.readonly", f"{_EVENTS}.owned")),
        Implied(f"{google.AUTH}calendar", (_EVENTS, f"{google.AUTH}calendar.readonly")),
    ),
    aliases=google.ALIASES,
    errors=google.ERRORS,
    shares=google.SHARES,
    project=google.PROJECT,
    unconfirmed=(
        *google.UNCONFIRMED,
        "That a notification channel can be stopped with an `.owned` scope: the discovery document names `calendar.events.readonly`.",
    ),
)
