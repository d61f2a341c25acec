"""Google's APIs: Calendar, Gmail, Drive, Meet."""

from __future__ import annotations

import base64
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from tests.sandboxes import Peer, Sandbox

pytestmark = pytest.mark.anyio
EVENTS = "/calendar/v3/calendars/primary/events"
AUTH = "https://www.googleapis.com/auth/"


@pytest.fixture
def drive(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "google-drive", browser)


@pytest.fixture
def meet(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "google-meet", browser)


async def opened(peer: Peer, *scopes: str, account: str = "ada") -> str:
    """Return an access token, with these scopes only where some are named."""
    changes = {"scope": " ".join(f"{AUTH}{scope}" for scope in scopes)} if scopes else {}
    return (await peer.connect(account, **changes))["access_token"]


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"].get("errors", [{"reason": ""}])[0]["reason"]


CALLS = [
    ("google-calendar", "GET", EVENTS, "calendar.events.owned.readonly", "userinfo.email"),
    ("google-calendar", "POST", EVENTS, "calendar.events.owned", "calendar.events.owned.readonly"),
    ("google-calendar", "PATCH", f"{EVENTS}/x", "calendar.events", "calendar.events.readonly"),
    ("google-calendar", "DELETE", f"{EVENTS}/x", "calendar.events", "calendar.events.readonly"),
    ("google-calendar", "POST", f"{EVENTS}/watch", "calendar.events.owned.readonly", "userinfo.email"),
    ("google-calendar", "POST", "/calendar/v3/channels/stop", "calendar.events.readonly", "userinfo.email"),
    ("gmail", "POST", "/gmail/v1/users/me/messages/send", "gmail.send", "gmail.readonly"),
    ("gmail", "POST", "/upload/gmail/v1/users/me/messages/send", "gmail.send", "gmail.readonly"),
    ("gmail", "GET", "/gmail/v1/users/me/threads", "gmail.readonly", "gmail.send"),
    ("gmail", "GET", "/gmail/v1/users/me/threads/x", "gmail.readonly", "gmail.send"),
    ("gmail", "GET", "/gmail/v1/users/me/messages", "gmail.readonly", "gmail.send"),
    ("gmail", "GET", "/gmail/v1/users/me/messages/x", "gmail.readonly", "gmail.send"),
    ("gmail", "GET", "/gmail/v1/users/me/history", "gmail.readonly", "gmail.send"),
    ("gmail", "GET", "/gmail/v1/users/me/profile", "gmail.readonly", "gmail.send"),
    ("gmail", "POST", "/gmail/v1/users/me/watch", "gmail.readonly", "gmail.send"),
    ("gmail", "POST", "/gmail/v1/users/me/stop", "gmail.readonly", "gmail.send"),
    ("google-drive", "POST", "/drive/v3/files", "drive.file", "userinfo.email"),
    ("google-drive", "POST", "/upload/drive/v3/files?uploadType=media", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/files", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/files/x", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/files/x/export", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/files/generateIds", "drive.file", "userinfo.email"),
    ("google-drive", "POST", "/drive/v3/files/x/permissions", "drive.file", "userinfo.email"),
    ("google-drive", "DELETE", "/drive/v3/files/x/permissions/y", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/about", "drive.file", "userinfo.email"),
    ("google-drive", "GET", "/drive/v3/changes/startPageToken", "drive.file", "userinfo.email"),
    ("google-drive", "POST", "/drive/v3/changes/watch", "drive.file", "userinfo.email"),
    ("google-drive", "POST", "/drive/v3/channels/stop", "drive.file", "userinfo.email"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/recordings", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/recordings/y", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/transcripts/y", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/transcripts", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/transcripts/y/entries", "meetings.space.readonly", "drive.meet.readonly"),
    ("google-meet", "GET", "/meet/v2/conferenceRecords/x/participants", "meetings.space.readonly", "drive.meet.readonly"),
]


@pytest.mark.parametrize(("application", "method", "path", "scope", "other"), CALLS)
async def test_each_call_wants_its_scope(
    sandbox: Sandbox, browser: httpx.AsyncClient, application: str, method: str, path: str, scope: str, other: str
) -> None:
    peer = Peer(sandbox, application, browser)
    peer.realm.change(application, scopes=(*peer.application.scopes, f"{AUTH}{other}"))
    right, wrong = await opened(peer, scope), await opened(peer, other)
    assert (await peer.call(method, path, "nothing")).status_code == 401
    refused = await peer.call(method, path, wrong)
    assert reason(refused) == (403, "insufficientPermissions")
    assert refused.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    assert (await peer.call(method, path, right)).status_code not in {401, 403}


async def test_every_call_of_the_apis_is_in_that_list() -> None:
    from customhouse_sandbox.google.vendor import VENDOR

    listed = {(method, path.partition("?")[0]) for _, method, path, _, _ in CALLS}
    for route in VENDOR.routes:
        if route.operation != "api" or (route.method == "GET" and route.path.endswith("/events/{event}")):
            continue
        assert any(route.match(method, path) is not None for method, path in listed), route


async def test_upcoming_events_are_listed_in_order_and_in_pages(calendar: Peer) -> None:
    access = await opened(calendar)
    now = "2026-01-01T00:00:00Z"
    asked = {"timeMin": now, "singleEvents": "true", "orderBy": "startTime", "maxResults": "3"}
    first = (await calendar.get(EVENTS, access, **asked)).json()
    second = (await calendar.get(EVENTS, access, **asked, pageToken=first["nextPageToken"])).json()
    starts = [event["start"]["dateTime"] for event in first["items"] + second["items"]]
    assert (len(starts), starts) == (5, sorted(starts))
    assert ("nextSyncToken" in first, "nextSyncToken" in second) == (False, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"orderBy": "startTime"},
        {"orderBy": "colour"},
        {"timeMin": "2026-01-01T00:00:00"},
        {"timeMax": "soon"},
        {"maxResults": "none"},
        {"pageToken": "nothing"},
        {"syncToken": "x", "q": "y"},
    ],
)
async def test_a_list_of_events_that_cannot_be_is_refused(calendar: Peer, wrong: dict[str, str]) -> None:
    assert (await calendar.get(EVENTS, await opened(calendar), **wrong)).status_code == 400


async def test_events_are_bounded_by_their_end_and_found_by_their_words(calendar: Peer) -> None:
    access = await opened(calendar)
    event = {"summary": "Across", "start": {"dateTime": "2030-01-01T10:00:00Z"}, "end": {"dateTime": "2030-01-01T12:00:00+01:00"}}
    await calendar.call("POST", EVENTS, access, event)
    for edge, count in (("2030-01-01T10:59:59Z", 1), ("2030-01-01T11:00:00Z", 0)):
        assert len((await calendar.get(EVENTS, access, timeMin=edge)).json()["items"]) == count
    assert len((await calendar.get(EVENTS, access, q="acROSS", timeMax="2030-01-01T10:00:01Z")).json()["items"]) == 1
    assert (await calendar.get(EVENTS, access, q="acROSS", timeMax="2030-01-01T10:00:00Z")).json()["items"] == []


async def test_an_event_with_an_id_of_our_own_is_made_once(calendar: Peer) -> None:
    access = await opened(calendar)
    event = {"id": "abcdef0123", "summary": "One", "start": {"date": "2030-01-01"}, "end": {"date": "2030-01-02"}}
    made = await calendar.call("POST", f"{EVENTS}?sendUpdates=none", access, event)
    assert (made.status_code, made.json()["id"], made.headers["etag"]) == (200, "abcdef0123", made.json()["etag"])
    assert reason(await calendar.call("POST", EVENTS, access, event)) == (409, "duplicate")
    assert (await calendar.get(f"{EVENTS}/abcdef0123", access)).json()["summary"] == "One"


@pytest.mark.parametrize(
    "wrong", [{"id": "xyz"}, {"id": "abc"}, {"id": 5}, {"end": None}, {"start": "now"}, {"end": {"date": "2029-01-01"}}, {"start": {}}]
)
async def test_an_event_that_cannot_be_is_refused(calendar: Peer, wrong: dict[str, object]) -> None:
    access = await opened(calendar)
    event = {"start": {"date": "2030-01-01"}, "end": {"date": "2030-01-02"}} | wrong
    assert (await calendar.call("POST", EVENTS, access, event)).status_code == 400
    assert (await calendar.call("POST", f"{EVENTS}?sendUpdates=some", access, {})).status_code == 400


async def test_a_change_is_guarded_by_the_version(calendar: Peer) -> None:
    access = await opened(calendar)
    event = (await calendar.call("POST", EVENTS, access, {"start": {"date": "2030-01-01"}, "end": {"date": "2030-01-02"}})).json()
    path = f"{EVENTS}/{event['id']}"
    changed = await calendar.call("PATCH", path, access, {"summary": "Changed", "location": "Here"}, if_match=event["etag"])
    assert (changed.json()["summary"], changed.json()["sequence"]) == ("Changed", 1)
    assert changed.json()["etag"] != event["etag"]
    assert reason(await calendar.call("PATCH", path, access, {"summary": "Late"}, if_match=event["etag"])) == (412, "conditionNotMet")
    assert reason(await calendar.call("DELETE", path, access, if_match=event["etag"])) == (412, "conditionNotMet")
    cleared = (await calendar.call("PATCH", path, access, {"location": None})).json()
    assert ("location" in cleared, cleared["summary"]) == (False, "Changed")
    assert (await calendar.call("PATCH", path, access, {"end": {"date": "2029-01-01"}})).status_code == 400
    assert (await calendar.call("DELETE", path, access)).status_code == 204
    assert reason(await calendar.call("DELETE", path, access)) == (410, "deleted")
    assert (await calendar.call("PATCH", path, access, {"summary": "x"})).status_code == 404


async def test_since_a_sync_token_come_the_changes_and_the_deletions(calendar: Peer) -> None:
    access = await opened(calendar)
    everything = (await calendar.get(EVENTS, access)).json()
    gone, changed = everything["items"][0]["id"], everything["items"][1]["id"]
    await calendar.call("DELETE", f"{EVENTS}/{gone}", access)
    await calendar.call("PATCH", f"{EVENTS}/{changed}", access, {"summary": "Changed"})
    since = (await calendar.get(EVENTS, access, syncToken=everything["nextSyncToken"])).json()
    assert {(event["id"], event["status"]) for event in since["items"]} == {(gone, "cancelled"), (changed, "confirmed")}
    assert (await calendar.get(EVENTS, access, syncToken=since["nextSyncToken"])).json()["items"] == []
    assert reason(await calendar.get(EVENTS, access, syncToken="nothing")) == (410, "fullSyncRequired")
    calendar.sandbox.clock.advance(31 * 86_400)
    late = await calendar.get(EVENTS, await opened(calendar), syncToken=since["nextSyncToken"])
    assert reason(late) == (410, "fullSyncRequired")


async def test_a_conference_is_made_only_with_its_version(calendar: Peer) -> None:
    access = await opened(calendar)
    event = {
        "start": {"date": "2030-01-01"},
        "end": {"date": "2030-01-02"},
        "conferenceData": {"createRequest": {"requestId": "r1", "conferenceSolutionKey": {"type": "hangoutsMeet"}}},
    }
    assert "hangoutLink" not in (await calendar.call("POST", EVENTS, access, event)).json()
    made = (await calendar.call("POST", f"{EVENTS}?conferenceDataVersion=1", access, event)).json()
    assert made["hangoutLink"] == made["conferenceData"]["entryPoints"][0]["uri"]


async def test_another_calendar_is_not_found(calendar: Peer) -> None:
    access = await opened(calendar)
    assert (await calendar.get(EVENTS.replace("primary", "grace@example.com"), access)).status_code == 404
    assert (await calendar.get(EVENTS.replace("primary", "ada@example.com"), access)).status_code == 200


SEND = "/gmail/v1/users/me/messages/send"


def letter(**headers: str) -> str:
    message = EmailMessage()
    for name, value in ({"To": "client@example.net", "Subject": "Hello"} | headers).items():
        if value:
            message[name.replace("_", "-")] = value
    message.set_content("Words.")
    return base64.urlsafe_b64encode(message.as_bytes()).decode().rstrip("=")


async def test_a_message_that_is_sent_twice_is_two_messages_and_is_found_by_its_id(gmail: Peer) -> None:
    access = await opened(gmail)
    raw = letter(Message_ID="<ours-1@example.com>")
    one, two = [(await gmail.call("POST", SEND, access, {"raw": raw})).json() for _ in range(2)]
    assert one["id"] != two["id"]
    assert one["labelIds"] == ["SENT"]
    found = (await gmail.get("/gmail/v1/users/me/messages", access, q="rfc822msgid:ours-1@example.com")).json()["messages"]
    assert {row["id"] for row in found} == {one["id"], two["id"]}
    none = (await gmail.get("/gmail/v1/users/me/messages", access, q="rfc822msgid:ours-2@example.com")).json()
    assert none["messages"] == []


async def test_an_answer_joins_its_thread_with_subject_and_reference_and_only_then(gmail: Peer) -> None:
    access = await opened(gmail)
    thread = (await gmail.get("/gmail/v1/users/me/threads", access, q="subject:invoice")).json()["threads"][0]["id"]
    whole = (await gmail.get(f"/gmail/v1/users/me/threads/{thread}", access)).json()
    headers = {header["name"]: header["value"] for header in whole["messages"][0]["payload"]["headers"]}
    right = letter(Subject=f"Re: {headers['Subject']}", In_Reply_To=headers["Message-ID"])
    assert (await gmail.call("POST", SEND, access, {"raw": right, "threadId": thread})).json()["threadId"] == thread
    for wrong in (letter(Subject=headers["Subject"]), letter(Subject="Other", In_Reply_To=headers["Message-ID"])):
        assert (await gmail.call("POST", SEND, access, {"raw": wrong, "threadId": thread})).json()["threadId"] != thread
    assert (await gmail.call("POST", SEND, access, {"raw": right, "threadId": "nothing"})).status_code == 404


@pytest.mark.parametrize("body", [{}, {"raw": ""}, {"raw": "???"}, {"raw": 5}, {"raw": letter(To="")}, {"raw": letter(To="nobody")}])
async def test_a_message_that_cannot_be_is_not_sent(gmail: Peer, body: dict[str, object]) -> None:
    access = await opened(gmail)
    before = (await gmail.get("/gmail/v1/users/me/profile", access)).json()["messagesTotal"]
    assert (await gmail.call("POST", SEND, access, body)).status_code == 400
    assert (await gmail.get("/gmail/v1/users/me/profile", access)).json()["messagesTotal"] == before


async def test_a_message_can_be_uploaded_as_it_is(gmail: Peer) -> None:
    access = await opened(gmail)
    url = f"{gmail.realm.base}/upload{SEND}"
    headers = {"authorization": f"Bearer {access}", "content-type": "message/rfc822"}
    content = b"To: client@example.net\r\nSubject: Up\r\n\r\nWords."
    sent = await gmail.browser.post(url, params={"uploadType": "media"}, headers=headers, content=content)
    told = (await gmail.get(f"/gmail/v1/users/me/messages/{sent.json()['id']}", access, format="raw")).json()
    assert b"Message-ID: <" in base64.urlsafe_b64decode(told["raw"]), "Google names what has no name"
    assert (await gmail.browser.post(url, headers=headers, content=content)).status_code == 400


async def test_threads_come_in_pages_and_by_label(gmail: Peer) -> None:
    access = await opened(gmail)
    first = (await gmail.get("/gmail/v1/users/me/threads", access, maxResults="2")).json()
    second = (await gmail.get("/gmail/v1/users/me/threads", access, maxResults="2", pageToken=first["nextPageToken"])).json()
    assert len({thread["id"] for thread in first["threads"] + second["threads"]}) == 3
    assert "nextPageToken" not in second
    sent = (await gmail.get("/gmail/v1/users/me/threads", access, labelIds="SENT")).json()["threads"]
    assert len(sent) == 1


async def test_a_thread_is_told_as_much_as_its_format_says(gmail: Peer) -> None:
    access = await opened(gmail)
    name = (await gmail.get("/gmail/v1/users/me/threads", access)).json()["threads"][0]["id"]
    path = f"/gmail/v1/users/me/threads/{name}"
    minimal = (await gmail.get(path, access, format="minimal")).json()["messages"][0]
    metadata = (await gmail.get(path, access, format="metadata", metadataHeaders="Subject")).json()["messages"][0]
    assert "payload" not in minimal
    assert ([header["name"] for header in metadata["payload"]["headers"]], "body" in metadata["payload"]) == (["Subject"], False)
    assert (await gmail.get(path, access, format="raw")).status_code == 400
    assert (await gmail.get(f"/gmail/v1/users/me/messages/{name}", access, format="odd")).status_code in {400, 404}


async def test_history_tells_what_came_since_and_is_gone_when_it_is_too_old(gmail: Peer) -> None:
    access = await opened(gmail)
    start = (await gmail.get("/gmail/v1/users/me/profile", access)).json()["historyId"]
    sent = (await gmail.call("POST", SEND, access, {"raw": letter()})).json()
    said = (await gmail.get("/gmail/v1/users/me/history", access, startHistoryId=start)).json()
    assert [row["messagesAdded"][0]["message"]["id"] for row in said["history"]] == [sent["id"]]
    assert (await gmail.get("/gmail/v1/users/me/history", access, startHistoryId="1")).status_code == 404


async def test_a_mailbox_is_watched_for_a_week_through_a_topic(gmail: Peer) -> None:
    access = await opened(gmail)
    said = (await gmail.call("POST", "/gmail/v1/users/me/watch", access, {"topicName": "projects/p/topics/t"})).json()
    assert 0 < int(said["expiration"]) / 1000 - gmail.sandbox.clock.now() <= 7 * 86_400
    assert (await gmail.call("POST", "/gmail/v1/users/me/watch", access, {"topicName": "t"})).status_code == 400
    assert (await gmail.call("POST", "/gmail/v1/users/me/stop", access)).status_code == 204


async def test_another_mailbox_is_not_found(gmail: Peer) -> None:
    assert (await gmail.get("/gmail/v1/users/grace@example.com/threads", await opened(gmail))).status_code == 404


async def test_a_file_with_an_id_taken_first_is_made_once(drive: Peer) -> None:
    access = await opened(drive)
    ids = (await drive.get("/drive/v3/files/generateIds", access, count="2")).json()["ids"]
    assert len(set(ids)) == 2
    made = await drive.call("POST", "/drive/v3/files", access, {"id": ids[0], "name": "Notes", "mimeType": "text/plain"})
    assert made.json() == {"kind": "drive#file", "id": ids[0], "name": "Notes", "mimeType": "text/plain"}
    assert reason(await drive.call("POST", "/drive/v3/files", access, {"id": ids[0], "name": "Notes"})) == (409, "fileIdInUse")
    assert reason(await drive.call("POST", "/drive/v3/files", access, {"id": "mine"})) == (400, "fileIdInvalid")
    for count in ("0", "1001", "x"):
        assert (await drive.get("/drive/v3/files/generateIds", access, count=count)).status_code == 400


async def upload(drive: Peer, access: str, content: bytes, kind: str, **query: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {access}", "content-type": kind}
    return await drive.browser.post(f"{drive.realm.base}/upload/drive/v3/files", params=query, headers=headers, content=content)


async def test_a_file_is_uploaded_and_read_back_whole_or_in_parts(drive: Peer) -> None:
    access = await opened(drive)
    parts = (
        b'--b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{"name":"Words"}\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\n0123456789\r\n--b--\r\n"
    )
    made = (await upload(drive, access, parts, "multipart/related; boundary=b", uploadType="multipart")).json()
    assert (made["name"], made["mimeType"]) == ("Words", "text/plain")
    path = f"/drive/v3/files/{made['id']}"
    assert (await drive.get(path, access, alt="media")).content == b"0123456789"
    part = await drive.browser.get(
        f"{drive.realm.base}{path}", params={"alt": "media"}, headers={"authorization": f"Bearer {access}", "range": "bytes=4-6"}
    )
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"456", "bytes 4-6/10")
    assert (await drive.get(path, access, fields="id,size")).json() == {"id": made["id"], "size": "10"}
    plain = (await upload(drive, access, b"abc", "text/plain", uploadType="media")).json()
    assert (await drive.get(f"/drive/v3/files/{plain['id']}", access, alt="media")).text == "abc"


@pytest.mark.parametrize(
    ("content", "kind", "query"),
    [
        (b"x", "text/plain", {"uploadType": "carrier-pigeon"}),
        (b"x", "text/plain", {"uploadType": "multipart"}),
        (b"--b\r\n\r\n{}\r\n--b--\r\n", "multipart/related; boundary=b", {"uploadType": "multipart"}),
        (b"--b\r\n\r\nno\r\n--b\r\n\r\nx\r\n--b--\r\n", "multipart/related; boundary=b", {"uploadType": "multipart"}),
    ],
)
async def test_an_upload_that_cannot_be_is_refused(drive: Peer, content: bytes, kind: str, query: dict[str, str]) -> None:
    assert (await upload(drive, await opened(drive), content, kind, **query)).status_code == 400


async def test_a_file_is_seen_by_the_application_that_made_it_and_by_no_other(drive: Peer, meet: Peer) -> None:
    access = await opened(drive)
    made = (await drive.call("POST", "/drive/v3/files", access, {"name": "Ours"})).json()
    listed = (await drive.get("/drive/v3/files", access, q="name = 'Ours' and trashed = false")).json()["files"]
    assert [file["id"] for file in listed] == [made["id"]]
    assert len((await drive.get("/drive/v3/files", access)).json()["files"]) == 1, "Meet's files are not seen"
    for stranger in (await opened(drive, account="grace"), await opened(meet)):
        assert (await drive.get(f"/drive/v3/files/{made['id']}", stranger)).status_code == 404
    assert (await drive.get("/drive/v3/files", access, q="size > 5")).status_code == 400
    assert (await drive.call("POST", "/drive/v3/files", access, {"parents": ["a", "b"]})).status_code == 400


async def test_a_file_is_shared_and_that_is_undone(drive: Peer) -> None:
    access = await opened(drive)
    path = f"/drive/v3/files/{(await drive.call('POST', '/drive/v3/files', access, {'name': 'Ours'})).json()['id']}/permissions"
    given = (await drive.call("POST", path, access, {"type": "user", "role": "reader", "emailAddress": "client@example.net"})).json()
    assert (await drive.call("DELETE", f"{path}/{given['id']}", access)).status_code == 204
    assert (await drive.call("DELETE", f"{path}/{given['id']}", access)).status_code == 404
    for wrong in ({"type": "user", "role": "reader"}, {"type": "crowd", "role": "reader"}, {"type": "anyone", "role": "king"}):
        assert (await drive.call("POST", path, access, wrong)).status_code == 400
    gift = {"type": "user", "role": "owner", "emailAddress": "client@example.net"}
    assert (await drive.call("POST", path, access, gift)).status_code == 403
    assert (await drive.call("POST", f"{path}?transferOwnership=true", access, gift)).status_code == 200


async def test_drive_tells_who_it_is_when_fields_are_named(drive: Peer) -> None:
    access = await opened(drive)
    assert (await drive.get("/drive/v3/about", access)).status_code == 400
    assert (await drive.get("/drive/v3/about", access, fields="user")).json()["user"]["emailAddress"] == "ada@example.com"


async def test_changes_of_drive_are_watched_from_a_page_token(drive: Peer) -> None:
    access = await opened(drive)
    token = (await drive.get("/drive/v3/changes/startPageToken", access)).json()["startPageToken"]
    wish = {"id": "c", "type": "web_hook", "address": "http://127.0.0.1:1/"}
    assert (await drive.call("POST", "/drive/v3/changes/watch", access, wish)).status_code == 400
    before = drive.sandbox.clock.now()
    made = await drive.call("POST", f"/drive/v3/changes/watch?pageToken={token}", access, wish)
    # An hour, where no end is named; milliseconds are cut off.
    assert before + 3600 - 0.001 <= int(made.json()["expiration"]) / 1000 <= drive.sandbox.clock.now() + 3600
    stopped = await drive.call("POST", "/drive/v3/channels/stop", access, {"id": "c", "resourceId": made.json()["resourceId"]})
    assert stopped.status_code == 204


async def records(meet: Peer, access: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await meet.get("/meet/v2/conferenceRecords", access, **query)).json()["conferenceRecords"]
    return found


async def test_conferences_are_listed_newest_first_and_filtered(meet: Peer) -> None:
    access = await opened(meet)
    found = await records(meet, access)
    starts = [one["startTime"] for one in found]
    assert (len(starts), starts) == (4, sorted(starts, reverse=True))
    assert ["endTime" in one for one in found] == [False, True, True, True]
    assert await records(meet, access, filter=f'space.name = "{found[1]["space"]}"') == [found[1]]
    assert await records(meet, access, filter=f'start_time>="{starts[2]}" AND end_time<"{found[1]["endTime"]}"') == [found[2]]
    for wrong in ('colour = "red"', 'start_time >= "soon"', 'space.name > "x"'):
        assert (await meet.get("/meet/v2/conferenceRecords", access, filter=wrong)).status_code == 400


async def test_a_recording_is_a_file_only_when_it_was_generated(meet: Peer) -> None:
    access = await opened(meet)
    states: dict[str, list[str]] = {}
    for one in await records(meet, access):
        rows = (await meet.get(f"/meet/v2/{one['name']}/recordings", access)).json()["recordings"]
        states[one["name"]] = [row["state"] for row in rows]
        for row in rows:
            assert (await meet.get(f"/meet/v2/{row['name']}", access)).json() == row
            if row["state"] == "FILE_GENERATED":
                video = await meet.get(f"/drive/v3/files/{row['driveDestination']['file']}", access, alt="media")
                assert (video.status_code, len(video.content)) == (200, 65_536)
    assert sorted(states.values()) == [[], [], ["ENDED"], ["FILE_GENERATED"]]


async def test_a_transcript_has_entries_and_a_document(meet: Peer) -> None:
    access = await opened(meet)
    oldest = (await records(meet, access))[-1]
    transcript = (await meet.get(f"/meet/v2/{oldest['name']}/transcripts", access)).json()["transcripts"][0]
    assert (await meet.get(f"/meet/v2/{transcript['name']}", access)).json() == transcript
    first = (await meet.get(f"/meet/v2/{transcript['name']}/entries", access)).json()
    texts = list(first["transcriptEntries"])
    while "nextPageToken" in first:
        first = (await meet.get(f"/meet/v2/{transcript['name']}/entries", access, pageToken=first["nextPageToken"])).json()
        texts += first["transcriptEntries"]
    assert len({entry["name"] for entry in texts}) == 25
    path = f"/drive/v3/files/{transcript['docsDestination']['document']}/export"
    assert "Welcome" in (await meet.get(path, access, mimeType="text/plain")).text
    assert (await meet.get(path, access, mimeType="image/png")).status_code == 403
    for wrong in ("transcripts/none/entries", "transcripts/none", "recordings/none"):
        assert (await meet.get(f"/meet/v2/{oldest['name']}/{wrong}", access)).status_code == 404


async def test_participants_are_named_and_others_conferences_are_nobodys(meet: Peer) -> None:
    access = await opened(meet)
    name = (await records(meet, access))[0]["name"]
    assert (await meet.get(f"/meet/v2/{name}/participants", access)).json()["totalSize"] == 2
    assert (await meet.get(f"/meet/v2/{name}", access)).json()["name"] == name
    assert (await meet.get(f"/meet/v2/{name}", await opened(meet, account="grace"))).status_code == 404


async def test_a_conference_is_forgotten_thirty_days_after_its_end(meet: Peer) -> None:
    meet.sandbox.clock.advance(26 * 86_400)
    assert len(await records(meet, await opened(meet))) == 3


async def test_a_rate_is_counted_per_project_and_person(calendar: Peer, gmail: Peer) -> None:
    ada, grace, other = await opened(calendar), await opened(calendar, account="grace"), await opened(gmail)
    calendar.sandbox.limit("google", 1, 3600)
    assert [(await calendar.get(EVENTS, token)).status_code for token in (ada, ada, grace)] == [200, 429, 200]
    assert (await gmail.get("/gmail/v1/users/me/threads", other)).status_code == 200
