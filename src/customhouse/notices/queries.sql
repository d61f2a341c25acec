-- name: write
insert into notices (tenant_id, notice_id, user_id, kind, connection_id, detail, created_at, mail, mail_reason, address_sealed, mail_next_at,
                     mail_ended_at)
values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9, $10, case when $8 = 'pending' then $11::timestamptz end,
        case when $8 = 'failed' then $11::timestamptz end)

-- name: find
select notice_id, user_id, kind, connection_id, detail::text as detail, created_at, read_at, mail, mail_reason
from notices
where tenant_id = $1
  and ($2::text is null or user_id = $2)
  and (not $3::boolean or read_at is null)
  and ($4::uuid is null or notice_id < $4)
order by notice_id desc
limit $5

-- name: read
update notices set read_at = coalesce(read_at, $3) where tenant_id = $1 and notice_id = $2
returning notice_id, user_id, kind, connection_id, detail::text as detail, created_at, read_at, mail, mail_reason

-- name: past
select tenant_id, notice_id from notices_past_v1($1, $2, $3)

-- name: delete
delete from notices where tenant_id = $1 and notice_id = any ($2::uuid[])

-- name: mails_due
select tenant_id, notice_id from notice_mails_due_v1($1, $2)

-- name: address
select address_sealed from notices where tenant_id = $1 and notice_id = $2 and mail = 'pending'

-- name: begin_mail
update notices set mail_attempts = mail_attempts + 1, mail_next_at = $4
where tenant_id = $1 and notice_id = $2 and mail = 'pending' and mail_next_at <= $3
returning kind, connection_id, created_at, mail_attempts

-- name: put_mail_off
update notices set mail_next_at = $3, mail_reason = $4 where tenant_id = $1 and notice_id = $2 and mail = 'pending'

-- name: end_mail
update notices set mail = $3, mail_reason = $4, mail_ended_at = $5, address_sealed = null, mail_next_at = null
where tenant_id = $1 and notice_id = $2 and mail = 'pending'
