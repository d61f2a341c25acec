-- Connections that a person consents to: sessions, states, exchanges, grants, sealed tokens, and grants that have to be revoked.

-- Flow -----------------------------------------------------------------------------------------------------------------

-- One invitation to connect. `deadline` is the end of the present state: of the link, of the stay at the provider, of the
-- exchange, of the host's time to confirm.
create table connect_sessions (
  tenant_id         text not null references tenants,
  session_id        uuid not null,
  link_hash         bytea not null check (octet_length(link_hash) = 32),
  user_id           text not null,
  provider          text not null,
  mode              text not null check (mode in ('observe', 'act')),
  -- The connection that comes into being, or (renews) the one that gets another grant.
  connection_id     uuid not null,
  renews            boolean not null,
  return_url        text,
  -- Name, address and language of the user; gone when the session is over.
  facts_sealed      bytea,
  state             text not null default 'open'
                    check (state in ('open', 'authorizing', 'exchanging', 'granted', 'confirmed', 'ended')),
  reason            text,
  browser_hash      bytea check (octet_length(browser_hash) = 32),
  consented_at      timestamptz,
  created_at        timestamptz not null default now(),
  deadline          timestamptz not null,
  primary key (tenant_id, session_id)
);
create index connect_sessions_link on connect_sessions (link_hash);
create index connect_sessions_deadline on connect_sessions (deadline);

-- What the provider has to send back: taken by DELETE … RETURNING, so by one callback alone.
create table connect_states (
  tenant_id         text not null,
  state_hash        bytea not null check (octet_length(state_hash) = 32),
  session_id        uuid not null,
  provider          text not null,
  browser_hash      bytea not null check (octet_length(browser_hash) = 32),
  verifier_sealed   bytea not null,
  redirect_uri      text not null,
  expires_at        timestamptz not null,
  primary key (tenant_id, state_hash),
  foreign key (tenant_id, session_id) references connect_sessions (tenant_id, session_id) on delete cascade
);
create index connect_states_hash on connect_states (state_hash);
create index connect_states_session on connect_states (tenant_id, session_id);

-- The journal of exchanges: committed before the call. A row that is left means that tokens may have been issued which nobody
-- holds; showing the code again yields them, or makes the provider end them (RFC 6749 §4.1.2).
create table connect_exchanges (
  tenant_id         text not null,
  session_id        uuid not null,
  code_sealed       bytea not null,
  verifier_sealed   bytea not null,
  redirect_uri      text not null,
  started_at        timestamptz not null,
  primary key (tenant_id, session_id),
  foreign key (tenant_id, session_id) references connect_sessions (tenant_id, session_id) on delete cascade
);

-- A grant that waits for the host's word about the user. Nothing can be done with it.
create table pending_grants (
  tenant_id           text not null,
  session_id          uuid not null,
  connection_id       uuid not null,
  requested           text[] not null,
  granted             text[] not null,
  missing             text[] not null,
  scopes_known        boolean not null,
  manifest_version    integer not null,
  account_index       bytea not null check (octet_length(account_index) = 32),
  account_sealed      bytea not null,
  tokens_sealed       bytea not null,
  access_expires_at   timestamptz,
  refresh_expires_at  timestamptz,
  api_origin          text,
  granted_at          timestamptz not null,
  primary key (tenant_id, session_id),
  foreign key (tenant_id, session_id) references connect_sessions (tenant_id, session_id)
);
create index pending_grants_account on pending_grants (account_index);

-- Grants ---------------------------------------------------------------------------------------------------------------

-- What a connection may do, as of its last consent. The index is a keyed hash of (client, account): who shares a grant.
create table connection_grants (
  tenant_id         text not null,
  connection_id     uuid not null,
  grant_version     bigint not null,
  requested         text[] not null,
  granted           text[] not null,
  missing           text[] not null,
  scopes_known      boolean not null,
  manifest_version  integer not null,
  account_index     bytea not null check (octet_length(account_index) = 32),
  account_sealed    bytea not null,
  user_sealed       bytea not null,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id)
);
create index connection_grants_account on connection_grants (account_index);

-- Who consented to what, and when; never changed.
create table consents (
  tenant_id         text not null,
  connection_id     uuid not null,
  grant_version     bigint not null,
  session_id        uuid not null,
  user_id           text not null,
  mode              text not null,
  requested         text[] not null,
  granted           text[] not null,
  manifest_version  integer not null,
  consented_at      timestamptz not null,
  confirmed_at      timestamptz not null,
  primary key (tenant_id, connection_id, grant_version),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id)
);

-- Sealed under the connection's key, each bound to its generation.
create table integration_tokens (
  tenant_id           text not null,
  connection_id       uuid not null,
  token_generation    bigint not null,
  access_sealed       bytea not null,
  refresh_sealed      bytea,
  access_expires_at   timestamptz,
  refresh_expires_at  timestamptz,
  api_origin          text,
  issued_at           timestamptz not null,
  refreshed_at        timestamptz,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id)
);

-- Grants that were got and may not be kept, until the provider has ended them, at most for seven days.
create table revocation_escrow (
  tenant_id         text not null,
  revocation_id     uuid not null,
  connection_id     uuid not null,
  provider          text not null,
  reason            text not null,
  account_index     bytea check (octet_length(account_index) = 32),
  api_origin        text,
  tokens_sealed     bytea not null,
  -- Nothing else is sealed under the connection's key: it goes with this row.
  ends_key          boolean not null,
  attempts          integer not null default 0,
  next_at           timestamptz not null,
  ends_at           timestamptz not null,
  created_at        timestamptz not null default now(),
  primary key (tenant_id, revocation_id)
);
create index revocation_escrow_due on revocation_escrow (next_at);

-- Row-level security ---------------------------------------------------------------------------------------------------

do $$
declare
  table_name text;
begin
  foreach table_name in array array['connect_sessions', 'connect_states', 'connect_exchanges', 'pending_grants', 'connection_grants',
      'consents', 'integration_tokens', 'revocation_escrow'] loop
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
grant select, insert, update, delete on connect_sessions to customhouse_service;
grant select, insert, delete on connect_states, connect_exchanges, pending_grants to customhouse_service;
grant select, insert, update, delete on connection_grants, integration_tokens, revocation_escrow to customhouse_service;
grant select, insert on consents to customhouse_service;

create trigger tell_change after insert or update on connection_grants for each row execute function tell_change();

-- Crossing -------------------------------------------------------------------------------------------------------------

create policy crossing on connect_sessions for select to customhouse_crossing using (true);
grant select (tenant_id, session_id, link_hash, state, deadline) on connect_sessions to customhouse_crossing;
create policy crossing on connect_states for select to customhouse_crossing using (true);
grant select (tenant_id, session_id, state_hash) on connect_states to customhouse_crossing;
create policy crossing on pending_grants for select to customhouse_crossing using (true);
grant select (tenant_id, session_id, account_index) on pending_grants to customhouse_crossing;
create policy crossing on connection_grants for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, account_index, requested) on connection_grants to customhouse_crossing;
create policy crossing on revocation_escrow for select to customhouse_crossing using (true);
grant select (tenant_id, revocation_id, next_at) on revocation_escrow to customhouse_crossing;
create policy crossing_consented on connections for select to customhouse_crossing using (provider <> 'webhook');
grant select (mode) on connections to customhouse_crossing;

create function resolve_connect_link_v1(p_link_hash bytea) returns table (tenant_id text, session_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select s.tenant_id, s.session_id from customhouse.connect_sessions s where s.link_hash = p_link_hash
$$;

create function resolve_connect_state_v1(p_state_hash bytea) returns table (tenant_id text, session_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select s.tenant_id, s.session_id from customhouse.connect_states s where s.state_hash = p_state_hash
$$;

-- Sessions whose present state has lasted too long, and those over for so long that nobody will ask for them.
create function connect_sessions_due_v1(p_moment timestamptz, p_forget interval, p_limit integer)
returns table (tenant_id text, session_id uuid, over boolean)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select s.tenant_id, s.session_id, s.state in ('confirmed', 'ended') from customhouse.connect_sessions s
  where s.deadline <= p_moment and (s.state not in ('confirmed', 'ended') or s.deadline <= p_moment - p_forget)
  order by s.deadline
  limit p_limit
$$;

-- How many connections, or grants that wait, stand on one account's grant.
create function grants_sharing_v1(p_account_index bytea) returns bigint
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select (select count(*) from customhouse.connection_grants g
          join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
          where g.account_index = p_account_index and c.status not in ('pending', 'revoked', 'disconnected'))
       + (select count(*) from customhouse.pending_grants p where p.account_index = p_account_index)
$$;

create function revocations_due_v1(p_moment timestamptz, p_limit integer) returns table (tenant_id text, revocation_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select r.tenant_id, r.revocation_id from customhouse.revocation_escrow r where r.next_at <= p_moment order by r.next_at limit p_limit
$$;

-- Connections of a provider and mode whose user was asked for less than what is asked for today.
create function outgrown_connections_v1(p_provider text, p_mode text, p_scopes text[], p_limit integer)
returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select c.tenant_id, c.connection_id
  from customhouse.connections c
  join customhouse.connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
  where c.provider = p_provider and c.mode = p_mode and c.status in ('active', 'degraded') and not g.requested @> p_scopes
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;
create index connections_provider on connections (provider, mode, status) where provider <> 'webhook';

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing;
  foreach name in array array['resolve_connect_link_v1(bytea)', 'resolve_connect_state_v1(bytea)',
      'connect_sessions_due_v1(timestamptz, interval, integer)', 'grants_sharing_v1(bytea)', 'revocations_due_v1(timestamptz, integer)',
      'outgrown_connections_v1(text, text, text[], integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
