"""Graph's calls: one meeting at a time, recordings and transcripts, chats and messages, limits, and how each of them refuses."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.microsoft.chats import chats, messages
from customhouse_sandbox.microsoft.meetings import Meeting, meetings
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio
BASE = "/v1.0/me/onlineMeetings"


def error(answer: httpx.Response, status: int, code: str) -> None:
    said = answer.json()["error"]
    assert (answer.status_code, said["code"]) == (status, code)
    assert {"date", "request-id", "client-request-id"} <= set(said["innerError"])


@pytest.fixture
async def access(teams: Peer) -> str:
    return (await teams.connect())["access_token"]


def recorded(teams: Peer, account: str = "ada") -> list[Meeting]:
    return [one for one in meetings(teams.realm, teams.realm.people[account]) if one.recordings]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nothing", "Basic eDp5"])
async def test_without_a_token_nothing_opens(teams: Peer, header: str) -> None:
    for path in ("/v1.0/me", BASE, "/v1.0/me/chats", "/v1.0/subscriptions"):
        answer = await teams.browser.get(f"{teams.realm.base}{path}", headers={"authorization": header})
        error(answer, 401, "InvalidAuthenticationToken")
        assert answer.headers["www-authenticate"].startswith('Bearer realm=""')


async def test_a_meeting_is_found_by_its_address_escaped_once_more_or_by_its_number(teams: Peer, access: str) -> None:
    one = recorded(teams)[0]
    said = (await teams.get(BASE, access, **{"$filter": f"JoinWebUrl eq '{one.address}'"})).json()["value"]
    assert [found["id"] for found in said] == [one.id]
    assert (said[0]["subject"], said[0]["chatInfo"]["threadId"], said[0]["joinWebUrl"]) == (one.subject, one.thread, one.address)
    by_number = await teams.get(BASE, access, **{"$filter": f"joinMeetingIdSettings/joinMeetingId eq '{one.number}'"})
    assert by_number.json()["value"] == said
    # As it stands in the address bar, its own escapes are undone once, and it is another one.
    raw = f"{teams.realm.base}{BASE}?$filter=JoinWebUrl%20eq%20'{one.address}'"
    assert (await teams.browser.get(raw, headers={"authorization": f"Bearer {access}"})).json()["value"] == []
    twice = f"{teams.realm.base}{BASE}?$filter=JoinWebUrl%20eq%20'{quote(one.address, safe='')}'"
    assert (await teams.browser.get(twice, headers={"authorization": f"Bearer {access}"})).json()["value"] == said


@pytest.mark.parametrize(
    "query", [{}, {"$filter": ""}, {"$filter": "subject eq 'x'"}, {"$filter": "JoinWebUrl eq 'a' or 'b'"}, {"$top": "5"}]
)
async def test_there_is_no_list_of_all_meetings(teams: Peer, access: str, query: dict[str, str]) -> None:
    error(await teams.get(BASE, access, **query), 400, "InvalidArgument")


async def test_nobody_elses_meetings_are_told(teams: Peer, access: str) -> None:
    other = recorded(teams, "grace")[0]
    assert (await teams.get(BASE, access, **{"$filter": f"JoinWebUrl eq '{other.address}'"})).json()["value"] == []
    error(await teams.get(f"{BASE}/{other.id}", access), 404, "NotFound")
    mine, grace = teams.realm.people["ada"].id, teams.realm.people["grace"].id
    one = recorded(teams)[0]
    assert (await teams.get(f"/v1.0/users/{mine}/onlineMeetings/{one.id}", access)).json()["id"] == one.id
    error(await teams.get(f"/v1.0/users/{grace}/onlineMeetings/{other.id}", access), 404, "NotFound")


async def test_a_meeting_without_a_calendar_event_has_no_artifacts(teams: Peer, access: str) -> None:
    bare = next(
        one for one in meetings(teams.realm, teams.realm.people["ada"]) if one.end < teams.sandbox.clock.now() and not one.recordings
    )
    for kind in ("recordings", "transcripts"):
        assert (await teams.get(f"{BASE}/{bare.id}/{kind}", access)).json()["value"] == []


async def test_recordings_come_in_pages_with_a_whole_address_for_the_next(teams: Peer, access: str) -> None:
    one = next(one for one in recorded(teams) if len(one.recordings) == 2)
    whole = (await teams.get(f"{BASE}/{one.id}/recordings", access)).json()
    assert [row["id"] for row in whole["value"]] == [row.id for row in one.recordings]
    assert {row["meetingId"] for row in whole["value"]} == {one.id}
    first = (await teams.get(f"{BASE}/{one.id}/recordings", access, **{"$top": "1"})).json()
    second = (await teams.get(first["@odata.nextLink"], access)).json()
    assert [*first["value"], *second["value"]] == whole["value"]
    assert "@odata.nextLink" not in second
    for wrong in ({"$top": "0"}, {"$top": "51"}, {"$top": "x"}, {"$skiptoken": "nothing"}):
        error(await teams.get(f"{BASE}/{one.id}/recordings", access, **wrong), 400, "BadRequest")
    alone = (await teams.get(f"{BASE}/{one.id}/recordings/{one.recordings[0].id}", access)).json()
    assert alone == whole["value"][0]
    error(await teams.get(f"{BASE}/{one.id}/recordings/nothing", access), 404, "NotFound")
    error(await teams.get(f"{BASE}/{one.id}/minutes", access), 400, "BadRequest")


@pytest.mark.parametrize("where", ["redirect", "bytes"])
async def test_a_recordings_bytes_are_where_the_fact_says(teams: Peer, access: str, where: str) -> None:
    teams.sandbox.set_fact("microsoft", "content", where)
    recording = recorded(teams)[0].recordings[0]
    told = (await teams.get(f"{BASE}/{recorded(teams)[0].id}/recordings", access)).json()["value"][0]
    answer = await teams.get(told["recordingContentUrl"], access)
    url = told["recordingContentUrl"]
    if where == "redirect":
        assert answer.status_code == 302
        url = answer.headers["location"]
        answer = await teams.browser.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, recording.content, "video/mp4")
    part = await teams.browser.get(url, headers={"range": "bytes=10-19", "authorization": f"Bearer {access}"})
    assert (part.status_code, part.content) == (206, recording.content[10:20])
    error(await teams.browser.get(f"{teams.realm.base}/storage/nothing"), 404, "NotFound")


async def test_a_transcript_is_webvtt_and_nothing_else(teams: Peer, access: str) -> None:
    one = recorded(teams)[0]
    path = f"{BASE}/{one.id}/transcripts/{one.transcripts[0].id}"
    for query in ({}, {"$format": "text/vtt"}):
        answer = await teams.get(f"{path}/content", access, **query)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/vtt")
        assert answer.text.startswith("WEBVTT")
        assert "Ada Example" in answer.text
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    error(await teams.get(f"{path}/content", access, **{"$format": word}), 406, "NotAcceptable")
    assert '"speakerName": "Ada Example"' in (await teams.get(f"{path}/metadataContent", access)).text
    error(await teams.get(f"{BASE}/{one.id}/recordings/{one.recordings[0].id}/metadataContent", access), 400, "BadRequest")


@pytest.mark.parametrize("policy", ["open", "blocked"])
async def test_an_administrator_can_block_transcripts_and_says_so_inside(teams: Peer, access: str, policy: str) -> None:
    teams.sandbox.set_fact("microsoft", "transcripts", policy)
    one = recorded(teams)[0]
    answer = await teams.get(f"{BASE}/{one.id}/transcripts", access)
    if policy == "open":
        assert len(answer.json()["value"]) == 1
        return
    error(answer, 403, "Forbidden")
    assert answer.json()["error"]["innerError"]["code"] == "GraphAccessToTranscriptsDisabled"
    assert (await teams.get(f"{BASE}/{one.id}/recordings", access)).status_code == 200


async def test_each_call_needs_its_permission(teams: Peer) -> None:
    blind = (await teams.connect(scope="User.Read"))["access_token"]
    one, chat = recorded(teams)[0], chats(teams.realm, teams.realm.people["ada"])[0]
    for path, wanted in (
        (f"{BASE}/{one.id}", "OnlineMeetings.Read"),
        (f"{BASE}/{one.id}/recordings", "OnlineMeetingRecording.Read.All"),
        (f"{BASE}/{one.id}/transcripts/{one.transcripts[0].id}/content", "OnlineMeetingTranscript.Read.All"),
        ("/v1.0/me/chats", "Chat.ReadBasic"),
        (f"/v1.0/chats/{chat.id}/messages", "Chat.Read"),
    ):
        answer = await teams.get(path, blind)
        error(answer, 403, "Forbidden")
        assert wanted in answer.json()["error"]["message"]


async def test_the_collections_of_everything_are_for_applications_alone(teams: Peer, access: str) -> None:
    ada = teams.realm.people["ada"].id
    for name in ("getAllRecordings", "getAllTranscripts"):
        path = f"/v1.0/users/{ada}/onlineMeetings/{name}(meetingOrganizerUserId='{ada}')"
        error(await teams.get(path, access), 403, "Forbidden")


async def test_chats_are_told_with_their_members_and_no_messages(teams: Peer, access: str) -> None:
    rows = (await teams.get("/v1.0/me/chats", access)).json()["value"]
    assert {row["chatType"] for row in rows} == {"oneOnOne", "group", "meeting"}
    pair = next(row for row in rows if row["chatType"] == "oneOnOne")
    members = (await teams.get(f"/v1.0/chats/{pair['id']}/members", access)).json()["value"]
    assert {one["email"] for one in members} == {"ada@example.com", "grace@example.com"}
    assert (await teams.get(f"/v1.0/chats/{pair['id']}", access)).json()["id"] == pair["id"]
    error(await teams.get(f"/v1.0/chats/{pair['id']}/messages", access), 403, "Forbidden")
    strange = chats(teams.realm, teams.realm.people["alan"])[0].id
    error(await teams.get(f"/v1.0/chats/{strange}", access), 404, "NotFound")


async def send(teams: Peer, access: str, said: Any, chat: str = "") -> httpx.Response:
    chat = chat or chats(teams.realm, teams.realm.people["ada"])[0].id
    return await teams.call("POST", f"/v1.0/chats/{chat}/messages", access, said)


async def test_a_message_is_sent_in_the_persons_name_once_for_each_call(teams: Peer, access: str) -> None:
    first, second = [await send(teams, access, {"body": {"content": "Hello"}}) for _ in range(2)]
    assert (first.status_code, first.json()["body"]) == (201, {"contentType": "text", "content": "Hello"})
    assert first.json()["from"]["user"]["id"] == teams.realm.people["ada"].id
    assert int(first.json()["id"]) < int(second.json()["id"]), "the same call twice is two messages"
    rich = (await send(teams, access, {"body": {"contentType": "html", "content": "<b>Hello</b>"}})).json()
    assert [one["id"] for one in messages(teams.realm)] == [first.json()["id"], second.json()["id"], rich["id"]]
    reader = (await teams.connect("grace", scope="Chat.Read"))["access_token"]
    rows = (await teams.get(f"/v1.0/chats/{first.json()['chatId']}/messages", reader)).json()["value"]
    assert [one["id"] for one in rows] == [rich["id"], second.json()["id"], first.json()["id"]]


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"body": "Hello"},
        {"body": {}},
        {"body": {"content": ""}},
        {"body": {"content": 1}},
        {"body": {"content": "x", "contentType": "markdown"}},
        {"body": {"content": "x"}, "importance": "low"},
        {"body": {"content": "x"}, "importance": []},
    ],
)
async def test_a_message_out_of_order_is_refused(teams: Peer, access: str, said: Any) -> None:
    error(await send(teams, access, said), 400, "BadRequest")
    assert messages(teams.realm) == []


async def test_a_message_to_a_chat_of_others_is_refused(teams: Peer, access: str) -> None:
    strange = chats(teams.realm, teams.realm.people["alan"])[0].id
    error(await send(teams, access, {"body": {"content": "x"}}, strange), 404, "NotFound")
    reader = (await teams.connect("grace", scope="Chat.Read Chat.ReadBasic"))["access_token"]
    error(await send(teams, reader, {"body": {"content": "x"}}), 403, "Forbidden")
    assert messages(teams.realm) == []


@pytest.mark.parametrize("status", ["429", "503"])
async def test_too_many_calls_have_the_status_of_the_fact_and_the_seconds_to_wait(teams: Peer, access: str, status: str) -> None:
    teams.sandbox.set_fact("microsoft", "throttled_with", status)
    elsewhere = (await teams.connect("mira"))["access_token"]
    teams.sandbox.limit("microsoft", 1, 10)
    assert (await teams.me(access)).status_code == 200
    answer = await teams.me((await teams.connect("grace"))["access_token"])
    assert (answer.status_code, answer.headers["retry-after"]) == (int(status), "10")
    assert (await teams.me(elsewhere)).status_code == 200, "another tenant has a count of its own"
    teams.sandbox.limit("microsoft", None)
    teams.sandbox.order("microsoft-teams", FaultKind.RATE_LIMITED, Operation.API, retry_after=3)
    assert (await teams.get("/v1.0/me/chats", access)).headers["retry-after"] == "3"


async def test_a_path_that_there_is_not(teams: Peer, access: str) -> None:
    error(await teams.get("/v1.0/me/messages", access), 400, "BadRequest")


async def test_an_identity_can_be_missing(teams: Peer, access: str) -> None:
    teams.sandbox.order("microsoft-teams", FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "id" not in (await teams.me(access)).json()
