"""The schema as one file, for reading and for comparing: what the migrations add up to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_HEAD: Final = """\
-- What the migrations add up to. Made by `make schema`, for reading and for comparing; a database is made by `customhouse db migrate`.
-- The partitions, whose names hold dates, are left out.

set check_function_bodies = false;

do $$
declare
  role_name text;
begin
  foreach role_name in array array['customhouse_service', 'customhouse_crossing', 'customhouse_upkeep', 'customhouse_revoker'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      execute format('create role %I nologin', role_name);
    end if;
  end loop;
end
$$;

"""
_PARTITIONS: Final = "customhouse.*_2[0-9][0-9][0-9][0-9][0-9]*"
_SESSION: Final = re.compile(r"^(?:SET |SELECT pg_catalog\.set_config|\\(?:un)?restrict |--).*\n", re.MULTILINE)
_BLANK: Final = re.compile(r"\n{3,}")


def dump(dsn: str, pg_dump: Path) -> str:
    """Return the schema of a migrated database, without what is the session's, the server version's or its owner's name.

    Args:
        dsn: a login that owns the schema.
        pg_dump: the program, of the server's version or a later one.

    Raises:
        subprocess.CalledProcessError: it refused.
    """
    command = [str(pg_dump), "--schema-only", "--schema=customhouse", f"--exclude-table={_PARTITIONS}", dsn]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a program of ours, no shell
    owner = re.escape(unquote(urlsplit(dsn).username or ""))
    text = re.sub(rf"^ALTER .* OWNER TO {owner};\n", "", _SESSION.sub("", text), flags=re.MULTILINE)
    return _HEAD + _BLANK.sub("\n\n", text).strip() + "\n"
