-- Rotation of keys: a key is made, becomes known to every process, takes over, and the one before it ends when nothing names it any more.

-- `next`: made, told to whoever reads the scope, and not yet used to seal.
alter table data_keys drop constraint data_keys_state_check;
alter table data_keys add constraint data_keys_state_check check (state in ('next', 'active', 'retired', 'destroyed'));
-- Since when nothing new is sealed under it; of a tenant key, since when it last wrapped anything.
alter table data_keys add column retired_at timestamptz;
alter table tenant_keys add column retired_at timestamptz;
create unique index data_keys_next on data_keys (tenant_id, purpose, scope) where state = 'next';
create index data_keys_scope on data_keys (tenant_id, purpose, scope);
create index data_keys_wrapped_by on data_keys (tenant_id, tenant_key_id) where state <> 'destroyed';
create index data_keys_turning on data_keys (tenant_id, state) where state in ('next', 'retired');
create index tenant_keys_turning on tenant_keys (tenant_id) where state = 'retired';

-- What a rotation set out to do: every key made before `cutoff`. It goes on from here, whoever began it.
create table key_rotations (
  rotation_id  uuid primary key,
  kind         text not null check (kind in ('tenant', 'connection', 'all')),
  -- The one tenant that it is about; null: all.
  only_tenant  text,
  cutoff       timestamptz not null,
  started_at   timestamptz not null,
  -- When the last key of its kind had got its successor.
  finished_at  timestamptz
);
create unique index key_rotations_under_way on key_rotations (kind, coalesce(only_tenant, '')) where finished_at is null;
grant select, insert, update on key_rotations to customhouse_service;

-- Keys under which nothing may be sealed any more, whatever a process that slept believes.
create table ended_keys (
  tenant_id      text not null,
  connection_id  uuid not null,
  key_id         uuid not null,
  ended_at       timestamptz not null,
  primary key (tenant_id, connection_id, key_id)
);
alter table ended_keys enable row level security;
alter table ended_keys force row level security;
create policy own_tenant on ended_keys to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert on ended_keys to customhouse_service;

-- What waits for the host's word is sealed anew as well.
grant update (account_sealed, tokens_sealed) on pending_grants to customhouse_service;

-- A value sealed under an ended key is refused. The shared lock is held to the end of the transaction; who ends a key takes it
-- alone, and then sees every value that was sealed under it. Arguments: the sealed columns.
create function refuse_ended_keys() returns trigger language plpgsql set search_path = customhouse, pg_temp as $$
declare
  name text;
  sealed bytea;
begin
  perform pg_advisory_xact_lock_shared(hashtextextended(concat_ws(chr(31), 'sealing', new.tenant_id, new.connection_id::text), 0));
  if exists (select from customhouse.ended_keys e where e.tenant_id = new.tenant_id and e.connection_id = new.connection_id) then
    foreach name in array tg_argv loop
      execute format('select ($1).%I', name) into sealed using new;
      if exists (select from customhouse.ended_keys e where e.tenant_id = new.tenant_id and e.connection_id = new.connection_id
                 and uuid_send(e.key_id) = substring(sealed from 2 for 16)) then
        raise exception 'a value was sealed under a key that has ended' using errcode = 'integrity_constraint_violation';
      end if;
    end loop;
  end if;
  return new;
end
$$;

create trigger refuse_ended_keys
  before insert or update of url_sealed, headers_sealed, client_certificate_sealed, client_key_sealed on connections
  for each row execute function refuse_ended_keys('url_sealed', 'headers_sealed', 'client_certificate_sealed', 'client_key_sealed');
create trigger refuse_ended_keys before insert or update of sealed on connection_secrets
  for each row execute function refuse_ended_keys('sealed');
create trigger refuse_ended_keys before insert or update of account_sealed, user_sealed on connection_grants
  for each row execute function refuse_ended_keys('account_sealed', 'user_sealed');
create trigger refuse_ended_keys before insert or update of access_sealed, refresh_sealed on integration_tokens
  for each row execute function refuse_ended_keys('access_sealed', 'refresh_sealed');
create trigger refuse_ended_keys before insert or update of account_sealed, tokens_sealed on pending_grants
  for each row execute function refuse_ended_keys('account_sealed', 'tokens_sealed');
create trigger refuse_ended_keys before insert or update of tokens_sealed, access_sealed, refresh_sealed on revocation_escrow
  for each row execute function refuse_ended_keys('tokens_sealed', 'access_sealed', 'refresh_sealed');

-- Crossing -------------------------------------------------------------------------------------------------------------

create policy crossing on tenant_keys for select to customhouse_crossing using (true);
grant select (tenant_id, state) on tenant_keys to customhouse_crossing;
create policy crossing on data_keys for select to customhouse_crossing using (true);
grant select (tenant_id, state) on data_keys to customhouse_crossing;

-- Whoever has a key, page by page.
create function key_holders_v1(p_after text, p_limit integer) returns table (tenant_id text)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select k.tenant_id from customhouse.tenant_keys k
  where k.state = 'active' and k.tenant_id > p_after order by k.tenant_id limit p_limit
$$;

-- Whose rotation is under way: a key has been made and not taken over, or has been replaced and not ended.
create function key_turns_v1(p_after text, p_limit integer) returns table (tenant_id text)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select t.tenant_id from (
    select d.tenant_id from customhouse.data_keys d where d.state in ('next', 'retired')
    union
    select k.tenant_id from customhouse.tenant_keys k where k.state = 'retired') t
  where t.tenant_id > p_after order by t.tenant_id limit p_limit
$$;

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing;
  foreach name in array array['key_holders_v1(text, integer)', 'key_turns_v1(text, integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
