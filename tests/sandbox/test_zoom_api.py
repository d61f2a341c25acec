"""Zoom's calls: meetings, recordings, transcripts, downloads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from customhouse_sandbox.zoom.meetings import Meeting, meetings
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def access(zoom: Peer) -> str:
    return (await zoom.connect())["access_token"]


def span(zoom: Peer, days: int) -> dict[str, str]:
    today = datetime.fromtimestamp(zoom.sandbox.clock.now(), UTC).date()
    return {"from": (today - timedelta(days=days)).isoformat(), "to": today.isoformat()}


def of(zoom: Peer, login: str) -> list[Meeting]:
    return meetings(zoom.realm, zoom.realm.people[login])


def twice(uuid: str) -> str:
    return quote(quote(uuid, safe=""), safe="")


async def test_recordings_of_the_last_month_are_listed_with_their_files(zoom: Peer, access: str) -> None:
    said = (await zoom.get("/v2/users/me/recordings", access, **span(zoom, 30))).json()
    assert (said["total_records"], said["next_page_token"]) == (3, "")
    types = {file["file_type"] for file in said["meetings"][0]["recording_files"]}
    assert types == {"MP4", "TRANSCRIPT", "CHAT"}
    assert (await zoom.get("/v2/users/me/recordings", access)).json()["meetings"] == []


async def test_recordings_come_in_pages_whose_tokens_belong_to_one_question_and_expire(zoom: Peer, access: str) -> None:
    asked = span(zoom, 30) | {"page_size": "2"}
    first = (await zoom.get("/v2/users/me/recordings", access, **asked)).json()
    second = (await zoom.get("/v2/users/me/recordings", access, **asked, next_page_token=first["next_page_token"])).json()
    seen = [meeting["uuid"] for meeting in first["meetings"] + second["meetings"]]
    assert (len(seen), len(set(seen)), second["next_page_token"]) == (3, 3, "")
    other = span(zoom, 5) | {"next_page_token": first["next_page_token"]}
    assert (await zoom.get("/v2/users/me/recordings", access, **other)).status_code == 400
    zoom.sandbox.clock.advance(901)
    late = await zoom.get("/v2/users/me/recordings", access, **asked, next_page_token=first["next_page_token"])
    assert late.status_code == 400


@pytest.mark.parametrize("fact", ["refused", "clamped"])
async def test_more_than_a_month_is_what_the_fact_says(zoom: Peer, access: str, fact: str) -> None:
    zoom.sandbox.set_fact("zoom", "recordings_range", fact)
    answer = await zoom.get("/v2/users/me/recordings", access, **span(zoom, 60))
    assert answer.status_code == (400 if fact == "refused" else 200)
    if fact == "clamped":
        assert answer.json()["from"] == span(zoom, 31)["from"]


@pytest.mark.parametrize(
    "wrong", [{"page_size": "301"}, {"page_size": "0"}, {"page_size": "x"}, {"from": "yesterday"}, {"from": "2999-01-01"}]
)
async def test_a_list_of_recordings_that_cannot_be_is_refused(zoom: Peer, access: str, wrong: dict[str, str]) -> None:
    assert (await zoom.get("/v2/users/me/recordings", access, **wrong)).json()["code"] == 300


async def test_other_peoples_recordings_are_nobodys(zoom: Peer, access: str) -> None:
    grace = zoom.realm.people["grace"]
    assert (await zoom.get(f"/v2/users/{grace.id}/recordings", access)).json()["code"] == 1001
    theirs = of(zoom, "grace")[-3]
    assert (await zoom.get(f"/v2/meetings/{twice(theirs.uuid)}/recordings", access)).status_code == 404
    mine = zoom.realm.people["ada"]
    assert (await zoom.get(f"/v2/users/{mine.id}/recordings", access)).status_code == 200


async def test_a_uuid_with_slashes_is_found_when_it_is_encoded_twice_and_only_then(zoom: Peer, access: str) -> None:
    awkward = [meeting for meeting in of(zoom, "ada") if "/" in meeting.uuid]
    assert len(awkward) == 2
    for meeting in awkward:
        assert (await zoom.get(f"/v2/past_meetings/{twice(meeting.uuid)}", access)).json()["uuid"] == meeting.uuid
        once = await zoom.get(f"/v2/past_meetings/{quote(meeting.uuid, safe='')}", access)
        assert once.status_code == 404
    plain = of(zoom, "ada")[0]
    assert (await zoom.get(f"/v2/past_meetings/{quote(plain.uuid, safe='')}", access)).json()["uuid"] == plain.uuid
    assert (await zoom.get(f"/v2/meetings/{plain.id}", access)).json()["uuid"] == plain.uuid


async def test_meetings_are_listed_by_type(zoom: Peer, access: str) -> None:
    counts = {}
    for kind in ("scheduled", "upcoming", "previous_meetings"):
        counts[kind] = (await zoom.get("/v2/users/me/meetings", access, type=kind)).json()["total_records"]
    assert counts == {"scheduled": 6, "upcoming": 2, "previous_meetings": 4}
    assert (await zoom.get("/v2/users/me/meetings", access, type="lost")).status_code == 400


async def test_a_coming_meeting_has_no_past(zoom: Peer, access: str) -> None:
    coming = of(zoom, "ada")[-1]
    assert (await zoom.get(f"/v2/meetings/{coming.id}", access)).json()["status"] == "waiting"
    for path in (f"/v2/past_meetings/{coming.id}", f"/v2/past_meetings/{coming.id}/participants", "/v2/meetings/1"):
        assert (await zoom.get(path, access)).json()["code"] == 3001
    zoom.sandbox.clock.advance(30 * 86_400)
    fresh = (await zoom.connect())["access_token"]
    assert (await zoom.get(f"/v2/past_meetings/{coming.id}", fresh)).status_code == 200


async def test_somebody_outside_the_account_has_no_address(zoom: Peer, access: str) -> None:
    path = f"/v2/past_meetings/{of(zoom, 'ada')[0].id}/participants"
    first = (await zoom.get(path, access, page_size="1")).json()
    second = (await zoom.get(path, access, page_size="1", next_page_token=first["next_page_token"])).json()
    assert [row["user_email"] for row in first["participants"] + second["participants"]] == ["ada@example.com", ""]


SCOPES = {
    "/v2/users/me/recordings": "cloud_recording:read:list_user_recordings",
    "/v2/meetings/1/recordings": "cloud_recording:read:list_recording_files",
    "/v2/meetings/1/transcript": "cloud_recording:read:meeting_transcript",
    "/v2/meetings/1": "meeting:read:meeting",
    "/v2/past_meetings/1": "meeting:read:past_meeting",
    "/v2/past_meetings/1/participants": "meeting:read:list_past_participants",
    "/v2/users/me/meetings": "meeting:read:list_meetings",
}


@pytest.mark.parametrize("path", SCOPES)
async def test_each_call_wants_its_own_scope(zoom: Peer, path: str) -> None:
    others = [scope for scope in zoom.application.scopes if scope != SCOPES[path]]
    access = (await zoom.exchange(await zoom.code(ticked=others))).json()["access_token"]
    assert (await zoom.get(path, access)).json()["message"].endswith(f"scopes:[{SCOPES[path]}].")
    assert (await zoom.get(path, "nothing")).json() == {"code": 124, "message": "Invalid access token."}


async def recorded(zoom: Peer, access: str, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = (await zoom.get(f"/v2/meetings/{of(zoom, 'ada')[3].id}/recordings", access, **query)).json()
    return found


async def test_a_file_is_downloaded_after_a_redirect_whole_or_in_parts(zoom: Peer, access: str) -> None:
    video = next(file for file in (await recorded(zoom, access))["recording_files"] if file["file_type"] == "MP4")
    sent_on = await zoom.get(video["download_url"], access)
    assert sent_on.status_code == httpx.codes.FOUND
    place = sent_on.headers["location"]
    whole = await zoom.browser.get(place)
    assert len(whole.content) == video["file_size"]
    tail = await zoom.browser.get(place, headers={"range": "bytes=60000-"})
    middle = await zoom.browser.get(place, headers={"range": "bytes=10-19"})
    assert (tail.status_code, whole.content[60000:] == tail.content) == (206, True)
    assert (middle.content, middle.headers["content-range"]) == (whole.content[10:20], f"bytes 10-19/{video['file_size']}")
    assert (await zoom.browser.get(place, headers={"range": "bytes=99999999-"})).status_code == 416
    assert (await zoom.browser.get(place.replace("/rec/archive/", "/rec/archive/x"))).status_code == 404


async def test_a_download_needs_a_token_of_the_owner(zoom: Peer, access: str) -> None:
    url = (await recorded(zoom, access))["recording_files"][0]["download_url"]
    assert (await zoom.browser.get(url)).status_code == 401
    stranger = (await zoom.connect("grace"))["access_token"]
    assert (await zoom.get(url, stranger)).status_code == 404
    assert (await zoom.get(f"{url}x", access)).status_code == 404


async def test_a_download_token_opens_one_meeting_for_its_time(zoom: Peer, access: str) -> None:
    said = await recorded(zoom, access, include_fields="download_access_token", ttl="60")
    token, url = said["download_access_token"], said["recording_files"][0]["download_url"]
    assert (await zoom.get(url, token)).status_code == 302
    other = (await zoom.get(f"/v2/meetings/{twice(of(zoom, 'ada')[2].uuid)}/recordings", access)).json()
    assert (await zoom.get(other["recording_files"][0]["download_url"], token)).status_code == 404
    zoom.sandbox.clock.advance(61)
    assert (await zoom.get(url, token)).status_code == 404
    assert "download_access_token" not in await recorded(zoom, (await zoom.connect())["access_token"])


async def test_a_ttl_longer_than_a_week_is_refused(zoom: Peer, access: str) -> None:
    assert (await recorded(zoom, access, include_fields="download_access_token", ttl="604801"))["code"] == 300


async def test_a_transcript_is_webvtt(zoom: Peer, access: str) -> None:
    said = (await zoom.get(f"/v2/meetings/{of(zoom, 'ada')[3].id}/transcript", access)).json()
    place = (await zoom.get(said["download_url"], access)).headers["location"]
    assert (await zoom.browser.get(place)).text.startswith("WEBVTT\n")
    silent = of(zoom, "ada")[0]
    assert (await zoom.get(f"/v2/meetings/{silent.id}/transcript", access)).status_code == 404
    assert (await zoom.get(f"/v2/meetings/{silent.id}/recordings", access)).json()["code"] == 3301


async def test_a_rate_is_counted_over_the_whole_account(zoom: Peer, access: str) -> None:
    colleague, stranger = (await zoom.connect("grace"))["access_token"], (await zoom.connect("alan"))["access_token"]
    zoom.sandbox.limit("zoom", 2, 1800)
    assert [(await zoom.me(token)).status_code for token in (access, colleague, access, stranger)] == [200, 200, 429, 200]
    answer = await zoom.me(colleague)
    assert answer.json()["code"] == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 1800
    zoom.sandbox.clock.advance(1801)
    assert (await zoom.me(access)).status_code == 200
    zoom.sandbox.limit("zoom", None)
    assert [(await zoom.me(access)).status_code for _ in range(3)] == [200] * 3
