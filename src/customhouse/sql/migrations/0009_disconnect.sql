-- Disconnecting: the sealed token moves unopened into escrow, with its wrapped key; what came of it stands in a receipt.

-- A role of its own for what waits in escrow: it owns the one function that hands a sealed token out, for one revocation that is due,
-- in the caller's tenant. The service can put things into escrow and drop them; it cannot read them there.
do $$
begin
  if not exists (select from pg_roles where rolname = 'customhouse_revoker') then
    create role customhouse_revoker nologin;
  end if;
  begin
    execute format('grant customhouse_revoker to %I', current_user);
  exception when insufficient_privilege then
    -- An operator made the role: then the migrator must have been made a member, or the ownership below is refused.
    null;
  end;
end
$$;
grant usage on schema customhouse to customhouse_revoker;

alter table revocation_escrow
  alter column tokens_sealed drop not null,
  -- As they lay in integration_tokens, sealed for that place and this generation.
  add column access_sealed bytea,
  add column refresh_sealed bytea,
  add column token_generation bigint,
  add column access_expires_at timestamptz,
  -- The connection's key that they are sealed under; wrapped under a tenant key it lies here once the connection has ended, and
  -- nowhere else. Null in wrapped_key: the keyring has it.
  add column key_id uuid,
  add column tenant_key_id uuid,
  add column wrapped_key bytea,
  -- Since when the provider says that it has ended the grant.
  add column asked_at timestamptz,
  add constraint revocation_escrow_tokens check ((tokens_sealed is null) = (access_sealed is not null)),
  add constraint revocation_escrow_key check ((wrapped_key is null) = (tenant_key_id is null));
create index revocation_escrow_connection on revocation_escrow (tenant_id, connection_id);
create index revocation_escrow_tenant_key on revocation_escrow (tenant_id, tenant_key_id);

revoke all on revocation_escrow from customhouse_service;
grant select (tenant_id, revocation_id, connection_id, provider, reason, account_index, api_origin, ends_key, attempts, next_at, ends_at,
              created_at, token_generation, access_expires_at, key_id, tenant_key_id, asked_at),
      insert, update, delete on revocation_escrow to customhouse_service;
create policy revoker on revocation_escrow to customhouse_revoker
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, update (next_at) on revocation_escrow to customhouse_revoker;

-- Take one revocation that is due, so that nobody else does until p_until.
create function claim_revocation_v1(p_revocation uuid, p_moment timestamptz, p_until timestamptz)
returns table (connection_id uuid, provider text, reason text, account_index bytea, api_origin text, tokens_sealed bytea,
               access_sealed bytea, refresh_sealed bytea, token_generation bigint, access_expires_at timestamptz, key_id uuid,
               tenant_key_id uuid, wrapped_key bytea, ends_key boolean, attempts integer, asked_at timestamptz, ends_at timestamptz)
language sql volatile security definer set search_path = customhouse, pg_temp as $$
  update customhouse.revocation_escrow r set next_at = p_until
  where r.tenant_id = nullif(current_setting('app.tenant_id', true), '') and r.revocation_id = p_revocation and r.next_at <= p_moment
  returning r.connection_id, r.provider, r.reason, r.account_index, r.api_origin, r.tokens_sealed, r.access_sealed, r.refresh_sealed,
            r.token_generation, r.access_expires_at, r.key_id, r.tenant_key_id, r.wrapped_key, r.ends_key, r.attempts, r.asked_at, r.ends_at
$$;

-- Whose revocation ends whose grant, where that is not the account alone: the keyed hash of (client, organisation).
alter table connection_grants add column shared_index bytea check (octet_length(shared_index) = 32);
alter table pending_grants add column shared_index bytea check (octet_length(shared_index) = 32);
create index connection_grants_shared on connection_grants ((coalesce(shared_index, account_index)));
create index pending_grants_shared on pending_grants ((coalesce(shared_index, account_index)));

-- What a disconnect did; grows with the truth, and each version is in the ledger.
create table disconnect_receipts (
  tenant_id             text not null,
  connection_id         uuid not null,
  version               integer not null default 1,
  provider              text not null,
  -- Why: a code of ours.
  reason                text not null,
  -- The mass disconnect that it was part of.
  operation_id          uuid,
  revocation_id         uuid,
  revocation_status     text not null check (revocation_status in ('revoked', 'pending', 'unsupported', 'failed')),
  verified              boolean not null default false,
  attempts              integer not null default 0,
  -- Other connections stand on the same grant: it was dropped here alone.
  shared                boolean not null default false,
  tokens_destroyed      boolean not null,
  -- Destroyed in the keyring; what waits in escrow has the last copy.
  key_released          boolean not null default false,
  key_destroyed         boolean not null default false,
  escrow_until          timestamptz,
  actions_cancelled     integer not null default 0,
  deliveries_cancelled  integer not null default 0,
  subscriptions_ended   integer not null default 0,
  notified              boolean not null default false,
  -- What somebody has to do at the provider, in a sentence; empty: nothing.
  instructions          text not null default '',
  audit_entry_id        uuid not null,
  at                    timestamptz not null,
  updated_at            timestamptz not null,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id)
);
create index disconnect_receipts_unfinished on disconnect_receipts (updated_at) where not key_released;
create index disconnect_receipts_operation on disconnect_receipts (operation_id) where operation_id is not null;
alter table disconnect_receipts enable row level security;
alter table disconnect_receipts force row level security;
create policy own_tenant on disconnect_receipts to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update on disconnect_receipts to customhouse_service;

-- Crossing -------------------------------------------------------------------------------------------------------------

create policy crossing on disconnect_receipts for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, key_released, operation_id, updated_at) on disconnect_receipts to customhouse_crossing;
create policy crossing on consents for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, confirmed_at) on consents to customhouse_crossing;

grant select (shared_index) on connection_grants, pending_grants to customhouse_crossing;

-- How many connections, or grants that wait, one revocation would end.
create function grants_sharing_v2(p_index bytea) returns bigint
language sql volatile security definer set search_path = customhouse, pg_temp as $$
  select (select count(*) from customhouse.connection_grants g
          join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
          where coalesce(g.shared_index, g.account_index) = p_index and c.status not in ('pending', 'revoked', 'disconnected'))
       + (select count(*) from customhouse.pending_grants p where coalesce(p.shared_index, p.account_index) = p_index)
$$;

-- Disconnects whose key is still in the keyring: the process that ended the connection died before it came so far.
create function disconnects_unfinished_v1(p_before timestamptz, p_limit integer) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select r.tenant_id, r.connection_id from customhouse.disconnect_receipts r
  where not r.key_released and r.updated_at <= p_before order by r.updated_at limit p_limit
$$;

-- The connections of a provider account, by the keyed hash of (client, account).
create function connections_of_account_v1(p_account_index bytea) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select g.tenant_id, g.connection_id from customhouse.connection_grants g
  join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
  where g.account_index = p_account_index and c.status not in ('pending', 'revoked', 'disconnected')
  order by g.tenant_id, g.connection_id
$$;

-- The connections that an incident concerns, page by page: of a provider, of a tenant, with a consent since a moment.
create function connections_to_end_v1(p_provider text, p_tenant text, p_since timestamptz, p_after_tenant text, p_after uuid,
                                      p_limit integer)
returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select c.tenant_id, c.connection_id from customhouse.connections c
  where c.status not in ('pending', 'revoked', 'disconnected') and c.provider <> 'webhook'
    and (p_provider is null or c.provider = p_provider) and (p_tenant is null or c.tenant_id = p_tenant)
    and (p_since is null or exists (select from customhouse.consents o where o.tenant_id = c.tenant_id
                                    and o.connection_id = c.connection_id and o.confirmed_at >= p_since))
    and (c.tenant_id, c.connection_id) > (p_after_tenant, p_after)
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing, customhouse_revoker;
  foreach name in array array['grants_sharing_v2(bytea)', 'disconnects_unfinished_v1(timestamptz, integer)', 
      'connections_of_account_v1(bytea)', 'connections_to_end_v1(text, text, timestamptz, text, uuid, integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  alter function claim_revocation_v1(uuid, timestamptz, timestamptz) owner to customhouse_revoker;
  revoke all on function claim_revocation_v1(uuid, timestamptz, timestamptz) from public;
  grant execute on function claim_revocation_v1(uuid, timestamptz, timestamptz) to customhouse_service;
  revoke create on schema customhouse from customhouse_crossing, customhouse_revoker;
end
$$;
