"""Flask glue (extra `flask`): a decorator for the one view that takes the webhooks."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable

from flask import Response, current_app, make_response, request
from werkzeug.exceptions import RequestEntityTooLarge

from customhouse_receiver.answers import DUPLICATE, NOT_A_POST, Answer, refusal, settles
from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.receiver import Receiver

View = Callable[..., Any]


def webhook(receiver: Receiver) -> Callable[[View], Callable[..., Response]]:
    """Return a decorator: the view is called with the verified, claimed `Event` as its first argument, and its answer settles it.

    - 2xx: the event is done, before the answer leaves. Any other answer, or an exception: it is released, and the sender tries again.
    - A duplicate is answered 200 here; the view does not see it.
    - What is rejected is answered here, with `{"reason": …, "retryable": …}`.

    Commit your own transaction before you return. Place it below `@app.post(…)`; nothing may have read the form before.
    """

    def decorate(view: View) -> Callable[..., Response]:
        @wraps(view)
        def guarded(*arguments: Any, **options: Any) -> Response:
            if request.method != "POST":
                return _response(NOT_A_POST)
            try:
                event = receiver.verify(list(request.headers.items()), _read(receiver.max_body))
            except WebhookRejected as rejected:
                return _response(refusal(rejected))
            if event.duplicate:
                return _response(DUPLICATE)
            try:
                response = make_response(current_app.ensure_sync(view)(event, *arguments, **options))
                if settles(response.status_code):
                    event.done()
            except WebhookRejected as rejected:
                # Answering 2xx now would let a captured copy of this request through.
                return _response(refusal(rejected))
            finally:
                event.release()  # does nothing after done()
            return response

        return guarded

    return decorate


def _read(most: int) -> bytes:
    # One more than is accepted: a body without a declared length is cut there, and found to be too large.
    request.max_content_length = most + 1
    try:
        # Cached, so that the view may read it again.
        return request.get_data(cache=True, parse_form_data=False)
    except RequestEntityTooLarge:
        raise WebhookRejected(Reason.BODY_TOO_LARGE) from None


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, list(answer.headers))
