-- Keys that were pasted: what is known of each besides the sealed key itself, which lies in integration_tokens and takes this row with it.

create table pasted_keys (
  tenant_id      text not null,
  connection_id  uuid not null,
  -- A keyed hash: the same key is not kept twice in a tenant.
  key_index      bytea not null check (octet_length(key_index) = 32),
  -- For real money, or for test data.
  live           boolean not null,
  pasted_at      timestamptz not null,
  -- When its permissions were last seen for certain.
  checked_at     timestamptz not null,
  -- Null: a person has to act first.
  next_check_at  timestamptz,
  -- When its age was last told.
  told_at        timestamptz,
  primary key (tenant_id, connection_id),
  constraint pasted_keys_once unique (tenant_id, key_index),
  foreign key (tenant_id, connection_id) references integration_tokens (tenant_id, connection_id) on delete cascade
);
create index pasted_keys_due on pasted_keys (next_check_at) where next_check_at is not null;

alter table pasted_keys enable row level security;
alter table pasted_keys force row level security;
create policy own_tenant on pasted_keys to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update, delete on pasted_keys to customhouse_service;

create policy crossing on pasted_keys for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, next_check_at) on pasted_keys to customhouse_crossing;

-- Keys whose permissions have to be looked at again.
create function pasted_keys_due_v1(p_moment timestamptz, p_limit integer) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select k.tenant_id, k.connection_id from customhouse.pasted_keys k
  where k.next_check_at <= p_moment order by k.next_check_at limit p_limit
$$;

grant create on schema customhouse to customhouse_crossing;
alter function pasted_keys_due_v1(timestamptz, integer) owner to customhouse_crossing;
revoke create on schema customhouse from customhouse_crossing;
revoke all on function pasted_keys_due_v1(timestamptz, integer) from public;
grant execute on function pasted_keys_due_v1(timestamptz, integer) to customhouse_service;
