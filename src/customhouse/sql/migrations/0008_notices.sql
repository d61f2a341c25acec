-- Notices to users: an inbox for each, and the e-mail that goes with a notice.

create table notices (
  tenant_id       text not null references tenants,
  notice_id       uuid not null,
  user_id         text not null,
  kind            text not null,
  connection_id   uuid,
  -- Codes and ids, as the kind declares them.
  detail          jsonb not null default '{}',
  created_at      timestamptz not null,
  read_at         timestamptz,
  mail            text not null check (mail in ('none', 'pending', 'sent', 'failed')),
  mail_reason     text,
  -- Where to; gone when the e-mail is sent or given up.
  address_sealed  bytea,
  mail_attempts   integer not null default 0,
  mail_next_at    timestamptz,
  mail_ended_at   timestamptz,
  primary key (tenant_id, notice_id),
  constraint notices_mail_pending check (
    (mail = 'pending') = (address_sealed is not null) and (mail = 'pending') = (mail_next_at is not null))
);
create index notices_inbox on notices (tenant_id, user_id, notice_id);
create index notices_due on notices (mail_next_at) where mail = 'pending';
create index notices_age on notices (created_at);

alter table notices enable row level security;
alter table notices force row level security;
create policy own_tenant on notices to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update, delete on notices to customhouse_service;

create policy crossing on notices for select to customhouse_crossing using (true);
grant select (tenant_id, notice_id, created_at, read_at, mail, mail_next_at) on notices to customhouse_crossing;

-- E-mails whose time has come.
create function notice_mails_due_v1(p_moment timestamptz, p_limit integer) returns table (tenant_id text, notice_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select n.tenant_id, n.notice_id from customhouse.notices n
  where n.mail = 'pending' and n.mail_next_at <= p_moment
  order by n.mail_next_at
  limit p_limit
$$;

-- Notices that nobody needs any more: those read before one moment were made before it, and all that were made before an earlier one.
create function notices_past_v1(p_read_before timestamptz, p_made_before timestamptz, p_limit integer)
returns table (tenant_id text, notice_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select n.tenant_id, n.notice_id from customhouse.notices n
  where n.created_at < p_read_before and (n.read_at < p_read_before or n.created_at < p_made_before) and n.mail <> 'pending'
  order by n.created_at
  limit p_limit
$$;

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing;
  foreach name in array array['notice_mails_due_v1(timestamptz, integer)', 'notices_past_v1(timestamptz, timestamptz, integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
