"""Django glue (extra `django`): a decorator for the one view that takes the webhooks, synchronous or not."""

from __future__ import annotations

from contextlib import ExitStack
from functools import wraps
from typing import Any, Callable

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import RequestDataTooBig
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from customhouse_receiver.answers import DUPLICATE, NOT_A_POST, Answer, refusal, settles
from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.receiver import Receiver

View = Callable[..., Any]


def webhook(receiver: Receiver) -> Callable[[View], View]:
    """Return a decorator: the view is called with the request and the verified, claimed `Event`, and its answer settles it.

    - 2xx: the event is done, before the answer leaves. Any other answer, or an exception: it is released, and the sender tries again.
    - A duplicate is answered 200 here; the view does not see it.
    - What is rejected is answered here, with `{"reason": …, "retryable": …}`.

    The view needs no `csrf_exempt`: the signature says where the request comes from. With `ATOMIC_REQUESTS` the view runs in its
    transaction as ever, but it is committed before the event is done; Django alone would commit afterwards, and a failure there would
    lose the event.
    """

    def decorate(view: View) -> View:
        guarded = _asynchronous(view, receiver) if iscoroutinefunction(view) else _synchronous(view, receiver)
        for alias in connections:
            guarded = transaction.non_atomic_requests(using=alias)(guarded)
        return csrf_exempt(guarded)  # type: ignore[no-any-return]

    return decorate


def _synchronous(view: View, receiver: Receiver) -> View:
    apart: frozenset[str] = frozenset(getattr(view, "_non_atomic_requests", ()))

    @wraps(view)
    def guarded(request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        if request.method != "POST":
            return _response(NOT_A_POST)
        try:
            event = receiver.verify(list(request.headers.items()), _read(request, receiver.max_body))
        except WebhookRejected as rejected:
            return _response(refusal(rejected))
        if event.duplicate:
            return _response(DUPLICATE)
        try:
            with ExitStack() as transactions:
                for alias, database in connections.settings.items():
                    if database["ATOMIC_REQUESTS"] and alias not in apart:
                        transactions.enter_context(transaction.atomic(using=alias))
                response = view(request, event, *arguments, **options)
            if settles(response.status_code):
                event.done()
        except WebhookRejected as rejected:
            # Answering 2xx now would let a captured copy of this request through.
            return _response(refusal(rejected))
        finally:
            event.release()  # does nothing after done()
        return response

    return guarded


def _asynchronous(view: View, receiver: Receiver) -> View:
    @wraps(view)
    async def guarded(request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        if request.method != "POST":
            return _response(NOT_A_POST)
        try:
            event = await receiver.averify(list(request.headers.items()), _read(request, receiver.max_body))
        except WebhookRejected as rejected:
            return _response(refusal(rejected))
        if event.duplicate:
            return _response(DUPLICATE)
        try:
            response = await view(request, event, *arguments, **options)
            if settles(response.status_code):
                await event.adone()
        except WebhookRejected as rejected:
            return _response(refusal(rejected))
        finally:
            await event.arelease()
        return response

    return guarded


def _read(request: HttpRequest, most: int) -> bytes:
    declared = str(request.META.get("CONTENT_LENGTH") or "")
    if declared.isascii() and declared.isdigit() and (len(declared) > len(str(most)) or int(declared) > most):
        raise WebhookRejected(Reason.BODY_TOO_LARGE)
    try:
        return request.body  # type: ignore[no-any-return]
    except RequestDataTooBig:  # the project's DATA_UPLOAD_MAX_MEMORY_SIZE is smaller than ours
        raise WebhookRejected(Reason.BODY_TOO_LARGE) from None


def _response(answer: Answer) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status)
    for name, value in answer.headers:
        response[name] = value
    return response
