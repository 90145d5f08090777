-- A decision has been carried out: the case leaves the queue, if nobody reported or appealed since it was written down.
-- KEYS: case, cases, both of the target's tag. ARGV: target, reporters ever and id of the appeal as they were then,
-- '1' = the text under review goes (it was dismissed), ms that a decided case is kept. Returns 1 when it left, else 0.
local c = redis.call('HMGET', KEYS[1], 'total', 'appeal_id')
if not c[1] and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])  -- nobody decided while it was kept: nothing of it is left
  return 1
end
redis.call('HDEL', KEYS[1], 'held')
if (c[1] or '0') ~= ARGV[2] or (c[2] or '') ~= ARGV[3] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'open', '0')
redis.call('HDEL', KEYS[1], 'appeal')
if ARGV[4] == '1' then redis.call('HDEL', KEYS[1], 'content') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
