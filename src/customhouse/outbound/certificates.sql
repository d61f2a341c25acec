-- name: expiring
select tenant_id, connection_id from certificates_expiring_v1($1, $2)

-- name: tell
update connections set certificate_told_for = certificate_expires_at
where tenant_id = $1 and connection_id = $2 and status in ('active', 'degraded', 'paused')
  and certificate_expires_at <= $3 and certificate_told_for is distinct from certificate_expires_at
returning certificate_expires_at
