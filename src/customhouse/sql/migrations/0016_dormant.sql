-- Connections that nobody uses are announced to be paused, and paused.

create table connection_dormancy (
  tenant_id      text not null,
  connection_id  uuid not null,
  -- When host and user were told; counts while nothing has happened since.
  told_at        timestamptz not null,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id)
);
alter table connection_dormancy enable row level security;
alter table connection_dormancy force row level security;
create policy own_tenant on connection_dormancy to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update, delete on connection_dormancy to customhouse_service;

create policy crossing on connection_dormancy for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, told_at) on connection_dormancy to customhouse_crossing;
create policy crossing_dormant on connection_uses for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, last_used_at) on connection_uses to customhouse_crossing;
grant select (updated_at) on connections to customhouse_crossing;

-- Connections without a use or a change since p_warn that nobody was told of, and those since p_pause that were told before p_told.
create function dormant_connections_v1(p_warn timestamptz, p_pause timestamptz, p_told timestamptz, p_limit integer)
returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select c.tenant_id, c.connection_id
  from customhouse.connections c
  left join customhouse.connection_uses u on u.tenant_id = c.tenant_id and u.connection_id = c.connection_id
  left join customhouse.connection_dormancy d on d.tenant_id = c.tenant_id and d.connection_id = c.connection_id
  cross join lateral (select greatest(c.updated_at, u.last_used_at) as used_at) l
  where c.provider <> 'webhook' and c.status in ('active', 'degraded')
    and ((l.used_at <= p_warn and (d.told_at is null or d.told_at < l.used_at))
      or (l.used_at <= p_pause and d.told_at >= l.used_at and d.told_at <= p_told))
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;

do $$
begin
  grant create on schema customhouse to customhouse_crossing;
  alter function dormant_connections_v1(timestamptz, timestamptz, timestamptz, integer) owner to customhouse_crossing;
  revoke all on function dormant_connections_v1(timestamptz, timestamptz, timestamptz, integer) from public;
  grant execute on function dormant_connections_v1(timestamptz, timestamptz, timestamptz, integer) to customhouse_service;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
