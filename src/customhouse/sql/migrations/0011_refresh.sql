-- Refresh of access tokens: a lease with a journal, and brakes per provider.

-- One row per connection that was ever refreshed. `holder` is one call: it is written before the call is made, so a row whose lease has
-- run out says that the refresh token may have been shown and that nobody has the answer. Whose result counts is decided by
-- integration_tokens.token_generation alone.
create table token_refreshes (
  tenant_id      text not null,
  connection_id  uuid not null,
  -- Which generation was shown to the provider.
  generation     bigint not null,
  holder         uuid,
  lease_until    timestamptz,
  started_at     timestamptz not null,
  -- Calls for this generation, and those of them whose answer nobody has.
  attempts       integer not null,
  lost           integer not null default 0,
  lost_since     timestamptz,
  -- The call whose answer was stored: a COMMIT whose reply was lost is recognised by it.
  stored_by      uuid,
  -- What came of it last: how the connection does.
  failures       integer not null default 0,
  reason         text,
  failing_since  timestamptz,
  not_before     timestamptz,
  checked_at     timestamptz,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id),
  check ((holder is null) = (lease_until is null))
);

alter table token_refreshes enable row level security;
alter table token_refreshes force row level security;
create policy own_tenant on token_refreshes to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update, delete on token_refreshes to customhouse_service;

-- What holds for all connections of a provider. `refused`: it does not accept our registration, and one call at a time may try again
-- after `until`. `slow`: it asked for fewer calls, and nothing that can wait is asked before `until`.
create table provider_brakes (
  provider  text not null,
  kind      text not null check (kind in ('refused', 'slow')),
  reason    text not null,
  since     timestamptz not null,
  until     timestamptz not null,
  times     integer not null default 1,
  primary key (provider, kind)
);
grant select, insert, update, delete on provider_brakes to customhouse_service;

create index integration_tokens_expiry on integration_tokens (access_expires_at);
create index integration_tokens_age on integration_tokens (issued_at);

-- Crossing -------------------------------------------------------------------------------------------------------------

create policy crossing on token_refreshes for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, lease_until, not_before) on token_refreshes to customhouse_crossing;
create policy crossing on integration_tokens for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, token_generation, access_expires_at, issued_at) on integration_tokens to customhouse_crossing;

-- Connections whose access token ends soon, or whose refresh token has lain unused for long; each provider has its turn. The moment at
-- which one is due is drawn from its id and generation, within the last part of its time, so that what was connected together does not
-- come together for ever.
create function refreshes_due_v1(p_moment timestamptz, p_provider text[], p_unused interval[], p_each integer)
returns table (tenant_id text, connection_id uuid, provider text, generation bigint)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  with candidate as (
    select t.tenant_id, t.connection_id, t.token_generation, t.access_expires_at, t.issued_at
    from customhouse.integration_tokens t where t.access_expires_at <= p_moment + interval '10 minutes'
    union
    select t.tenant_id, t.connection_id, t.token_generation, t.access_expires_at, t.issued_at
    from customhouse.integration_tokens t
    where t.access_expires_at is not null and t.issued_at <= p_moment - (select min(u) * 0.9 from unnest(p_unused) u)
  ), drawn as (
    select c.*, n.provider, asked.unused,
           (hashtextextended(c.connection_id::text, c.token_generation) & 1023) / 1024.0 as draw
    from candidate c
    join customhouse.connections n on n.tenant_id = c.tenant_id and n.connection_id = c.connection_id
    join unnest(p_provider, p_unused) asked (provider, unused) on asked.provider = n.provider
    left join customhouse.token_refreshes r on r.tenant_id = c.tenant_id and r.connection_id = c.connection_id
    where n.status in ('active', 'degraded') and (r.lease_until is null or r.lease_until <= now())
      and (r.not_before is null or r.not_before <= now())
  ), due as (
    select d.tenant_id, d.connection_id, d.provider, d.token_generation,
           row_number() over (partition by d.provider order by d.access_expires_at nulls last, d.connection_id) as place
    from drawn d
    where d.access_expires_at <= p_moment + least(interval '5 minutes', (d.access_expires_at - d.issued_at) / 4) * (1 + d.draw)
       or d.issued_at <= p_moment - d.unused * (1 - d.draw / 10)
  )
  select d.tenant_id, d.connection_id, d.provider, d.token_generation from due d where d.place <= p_each order by d.place
$$;

do $$
begin
  grant create on schema customhouse to customhouse_crossing;
  alter function refreshes_due_v1(timestamptz, text[], interval[], integer) owner to customhouse_crossing;
  revoke all on function refreshes_due_v1(timestamptz, text[], interval[], integer) from public;
  grant execute on function refreshes_due_v1(timestamptz, text[], interval[], integer) to customhouse_service;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
