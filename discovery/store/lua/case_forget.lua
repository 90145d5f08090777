-- What a person's own case has of them goes, as they are erased; what others reported stays, as evidence.
-- KEYS: case, cases, both of the person's tag. ARGV: target.
-- A case that nobody reported leaves whole: returns the id of its appeal, whose name nobody needs then; else ''.
local c = redis.call('HMGET', KEYS[1], 'total', 'appeal_id')
redis.call('HDEL', KEYS[1], 'held', 'appeal', 'appeal_of', 'appeal_id')
if c[1] then return '' end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return c[2] or ''
