"""Everything that PostgreSQL's catalogue says about our schema, as lines that can be compared; partitions are left out."""

from __future__ import annotations

import asyncpg

_NOT_A_PARTITION = "c.relnamespace = 'customhouse'::regnamespace and not c.relispartition"

QUERIES = {
    "relation": f"""
        select concat_ws(' ', c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity, c.relpersistence,
                         c.reloptions::text, pg_get_partkeydef(c.oid)) as said
        from pg_class c where {_NOT_A_PARTITION} and c.relkind <> 'i'
    """,
    "column": f"""
        select concat_ws(' ', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                         a.attidentity, a.attgenerated, a.attcollation::regcollation, a.attstorage, pg_get_expr(d.adbin, d.adrelid)) as said
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where {_NOT_A_PARTITION} and c.relkind in ('r', 'p')
    """,
    "constraint": f"""
        select concat_ws(' ', c.relname, k.conname, k.contype, pg_get_constraintdef(k.oid)) as said
        from pg_constraint k join pg_class c on c.oid = k.conrelid where {_NOT_A_PARTITION}
    """,
    "index": f"""
        select pg_get_indexdef(i.indexrelid) as said from pg_index i join pg_class c on c.oid = i.indrelid where {_NOT_A_PARTITION}
    """,
    "policy": "select concat_ws(' ', tablename, policyname, permissive, roles::text, cmd, qual, with_check) as said "
    "from pg_policies where schemaname = 'customhouse'",
    "function": """
        select concat_ws(' ', pg_get_userbyid(p.proowner), pg_get_functiondef(p.oid)) as said
        from pg_proc p where p.pronamespace = 'customhouse'::regnamespace
    """,
    "trigger": f"""
        select concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)) as said
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where {_NOT_A_PARTITION} and not t.tgisinternal
    """,
    "right": f"""
        select concat_ws(' ', thing, grantee, privilege_type, is_grantable) as said from (
          select c.relname::text as thing, r.grantee::regrole::text as grantee, r.privilege_type, r.is_grantable
          from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) r
          where {_NOT_A_PARTITION} and c.relkind in ('r', 'p', 'S')
          union all
          select c.relname || '.' || a.attname, r.grantee::regrole::text, r.privilege_type, r.is_grantable
          from pg_class c join pg_attribute a on a.attrelid = c.oid, aclexplode(a.attacl) r where {_NOT_A_PARTITION}
          union all
          select p.oid::regprocedure::text, r.grantee::regrole::text, r.privilege_type, r.is_grantable
          from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r where p.pronamespace = 'customhouse'::regnamespace
          union all
          select n.nspname::text, r.grantee::regrole::text, r.privilege_type, r.is_grantable
          from pg_namespace n, aclexplode(n.nspacl) r where n.nspname = 'customhouse'
        ) granted
    """,
    "enumeration": """
        select concat_ws(' ', t.typname, pg_get_userbyid(t.typowner), array_agg(e.enumlabel order by e.enumsortorder)::text) as said
        from pg_type t join pg_enum e on e.enumtypid = t.oid where t.typnamespace = 'customhouse'::regnamespace group by t.oid
    """,
    "sequence": "select concat_ws(' ', sequencename, data_type, start_value, increment_by, cycle) as said "
    "from pg_sequences where schemaname = 'customhouse'",
}


async def catalogue(conn: asyncpg.Connection) -> dict[str, list[str]]:
    """Return what there is, by kind, sorted."""
    # Names print with their schema or without it, depending on this.
    await conn.execute("set search_path to pg_catalog")
    return {kind: sorted(row["said"] for row in await conn.fetch(query)) for kind, query in QUERIES.items()}
