-- name: append
insert into audit_entries (tenant_id, entry_id, at, tag, actor_type, actor_id, connection_id, subject, request_id, correlation_id, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb)

-- name: read
select entry_id, at, tag, actor_type, actor_id, connection_id, subject, request_id, correlation_id, detail::text as detail
from audit_entries
where tenant_id = $1
  and ($2::uuid is null or entry_id < $2)
  and ($3::uuid is null or connection_id = $3)
  and ($4::text is null or actor_id = $4)
  and ($5::text is null or tag = $5)
  and ($6::uuid is null or entry_id >= $6)
  and ($7::uuid is null or entry_id < $7)
order by entry_id desc
limit $8
