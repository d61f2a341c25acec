-- Reading credentials: what a connection was used for last, which connections a key has read, and alarms about too many (threats R4).

-- When a connection's credential was used last, for which scopes, and until when its provider wants to be left alone.
-- No foreign key: a read waits for nobody who holds the connection.
create table connection_uses (
  tenant_id      text not null,
  connection_id  uuid not null,
  last_used_at   timestamptz not null,
  scopes         text[] not null default '{}',
  hold_until     timestamptz,
  primary key (tenant_id, connection_id)
);

-- The connections that a key has read in a window of time. A platform key's rows stand in each tenant that it read in, and, over all
-- of them, in the operator's own.
create table bulk_read_seen (
  tenant_id      text not null,
  window_at      timestamptz not null,
  actor_id       text not null,
  connection_id  uuid not null,
  primary key (tenant_id, window_at, actor_id, connection_id)
);

-- How many those are. `usual` is the most that the key read in an earlier window; null: it has no history to compare with.
create table bulk_read_counts (
  tenant_id      text not null,
  actor_id       text not null,
  window_at      timestamptz not null,
  connections    integer not null,
  usual          integer,
  primary key (tenant_id, actor_id, window_at)
);

create table bulk_read_alarms (
  tenant_id      text not null,
  actor_id       text not null,
  raised_at      timestamptz not null,
  window_at      timestamptz not null,
  connections    integer not null,
  threshold      integer not null,
  -- Until then the key reads no token.
  stopped_until  timestamptz,
  primary key (tenant_id, actor_id, raised_at)
);

do $$
declare
  table_name text;
begin
  foreach table_name in array array['connection_uses', 'bulk_read_seen', 'bulk_read_counts', 'bulk_read_alarms'] loop
    execute format('alter table %I enable row level security', table_name);
    execute format('alter table %I force row level security', table_name);
    execute format($policy$
      create policy own_tenant on %I to customhouse_service
        using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
    $policy$, table_name);
  end loop;
end
$$;
grant select, insert, update, delete on connection_uses, bulk_read_counts to customhouse_service;
grant select, insert, delete on bulk_read_seen, bulk_read_alarms to customhouse_service;

-- What a read of a token needs, in one round trip. `p_home` is the tenant of the key that reads: its own, or the operator's.
-- No row: no such connection in this tenant.
create function read_token_v1(p_tenant text, p_connection uuid, p_home text, p_actor text, p_moment timestamptz)
returns table (
  provider text, mode text, status text, status_reason text, grant_version bigint, mac bytea, requested text[], granted text[],
  scopes_known boolean, account_index bytea, token_generation bigint, access_sealed bytea, access_expires_at timestamptz,
  api_origin text, hold_until timestamptz, stopped_until timestamptz)
language plpgsql set search_path = customhouse, pg_temp as $$
declare
  stopped timestamptz;
begin
  if p_home <> p_tenant then
    perform set_config('app.tenant_id', p_home, true);
    select max(a.stopped_until) into stopped from bulk_read_alarms a
    where a.tenant_id = p_home and a.actor_id = p_actor and a.stopped_until > p_moment;
  end if;
  perform set_config('app.tenant_id', p_tenant, true);
  return query
    select c.provider, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted, g.scopes_known, g.account_index,
           t.token_generation, t.access_sealed, t.access_expires_at, t.api_origin, u.hold_until,
           greatest(stopped, (select max(a.stopped_until) from bulk_read_alarms a
                              where a.tenant_id = p_tenant and a.actor_id = p_actor and a.stopped_until > p_moment))
    from connections c
    left join connection_grants g on g.tenant_id = p_tenant and g.connection_id = p_connection
    left join integration_tokens t on t.tenant_id = p_tenant and t.connection_id = p_connection
    left join connection_uses u on u.tenant_id = p_tenant and u.connection_id = p_connection
    where c.tenant_id = p_tenant and c.connection_id = p_connection;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- Write the entries of many reads, of many tenants, in one statement each (a_: entries, u_: uses, s_: connections that a key has not
-- read in this window yet). The rows of u_ and s_ come sorted: two groups never wait for each other in a ring.
-- Answers, for each key with such connections, how many they are by now.
create function record_reads_v1(
  a_tenant text[], a_entry uuid[], a_at timestamptz[], a_tag text[], a_actor_type text[], a_actor text[], a_connection uuid[],
  a_subject text[], a_request text[], a_correlation text[], a_detail text[],
  u_tenant text[], u_connection uuid[], u_at timestamptz[], u_scopes text[],
  s_tenant text[], s_actor text[], s_connection uuid[], p_window timestamptz, p_history interval, p_ripe interval
) returns table (tenant_id text, actor_id text, connections integer, usual integer)
language plpgsql set search_path = customhouse, pg_temp as $$
#variable_conflict use_column
declare
  t text;
  who text;
  places uuid[];
  fresh integer;
begin
  insert into audit_entries (tenant_id, entry_id, at, tag, actor_type, actor_id, connection_id, subject, request_id, correlation_id, detail)
  select set_config('app.tenant_id', e.tenant, true), e.entry, e.at, e.tag, e.actor_type, e.actor, e.connection, e.subject, e.request,
         e.correlation, e.detail::jsonb
  from unnest(a_tenant, a_entry, a_at, a_tag, a_actor_type, a_actor, a_connection, a_subject, a_request, a_correlation, a_detail)
         e (tenant, entry, at, tag, actor_type, actor, connection, subject, request, correlation, detail);

  if cardinality(u_tenant) > 0 then
    insert into connection_uses as held (tenant_id, connection_id, last_used_at, scopes)
    select set_config('app.tenant_id', u.tenant, true), u.connection, u.at, string_to_array(u.scopes, ' ')
    from unnest(u_tenant, u_connection, u_at, u_scopes) u (tenant, connection, at, scopes)
    on conflict (tenant_id, connection_id) do update
    set last_used_at = greatest(held.last_used_at, excluded.last_used_at),
        scopes = array(select distinct one from unnest(held.scopes || excluded.scopes) one order by one);
  end if;

  for t, who, places in
    select s.tenant, s.actor, array_agg(s.connection order by s.connection)
    from unnest(s_tenant, s_actor, s_connection) s (tenant, actor, connection)
    group by s.tenant, s.actor order by s.tenant, s.actor
  loop
    perform set_config('app.tenant_id', t, true);
    insert into bulk_read_counts (tenant_id, actor_id, window_at, connections, usual)
    select t, who, p_window, 0, case when bool_or(c.window_at <= p_window - p_ripe) then max(c.connections) filter (
             -- What an alarm was raised about counts as usual only when it has stood for a while.
             where c.window_at <= p_window - p_ripe or not exists (
               select from bulk_read_alarms a where a.tenant_id = t and a.actor_id = who and a.window_at = c.window_at)) end
    from bulk_read_counts c
    where c.tenant_id = t and c.actor_id = who and c.window_at >= p_window - p_history and c.window_at < p_window
    on conflict do nothing;
    if found then
      delete from bulk_read_seen old where old.tenant_id = t and old.window_at < p_window - p_ripe;
      delete from bulk_read_counts old where old.tenant_id = t and old.actor_id = who and old.window_at < p_window - p_history;
    end if;
    insert into bulk_read_seen (tenant_id, window_at, actor_id, connection_id)
    select t, p_window, who, place from unnest(places) place
    on conflict do nothing;
    get diagnostics fresh = row_count;
    return query
      update bulk_read_counts b set connections = b.connections + fresh
      where b.tenant_id = t and b.actor_id = who and b.window_at = p_window
      returning b.tenant_id, b.actor_id, b.connections, b.usual;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

do $$
declare
  name text;
begin
  foreach name in array array['read_token_v1(text, uuid, text, text, timestamptz)',
      'record_reads_v1(text[], uuid[], timestamptz[], text[], text[], text[], uuid[], text[], text[], text[], text[], text[], uuid[], '
      'timestamptz[], text[], text[], text[], uuid[], timestamptz, interval, interval)'] loop
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
end
$$;
