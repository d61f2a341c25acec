"""A Django project of one address for the tests; Django can be configured once per process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings

_FOLDER = tempfile.TemporaryDirectory(prefix="customhouse-django-")  # removed with the process


def configured() -> Any:
    """Return the settings, made at the first call."""
    if not settings.configured:
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(_FOLDER.name) / "db"), "ATOMIC_REQUESTS": True}
        settings.configure(
            ALLOWED_HOSTS=["127.0.0.1"],
            DATABASES={"default": database},
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", "django.middleware.common.CommonMiddleware"],
            SECRET_KEY="only a test",
            USE_TZ=True,
        )
        django.setup()
    return settings
