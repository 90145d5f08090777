-- First step of a shake: its idempotency row and the report that moves the person's state machine.
-- KEYS: operation row, feed, operations of the person (zset), all of the person's tag. ARGV: fingerprint, row TTL in ms, packed report, hive time in ms.
-- Returns {'new' | 'repeat' | 'other', entry id, hive time of the first call in ms}.
local row = redis.call('GET', KEYS[1])
if row then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  local fingerprint, at = string.match(row, '^(.*)|(%d+)$')
  return {fingerprint == ARGV[1] and 'repeat' or 'other', last[1] and last[1][1] or '0-0', at}
end
local entry = redis.call('XADD', KEYS[2], '*', 'k', 'r', 'd', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[4], 'PX', ARGV[2])
local clock = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', tonumber(clock[1]) * 1000)
redis.call('ZADD', KEYS[3], tonumber(clock[1]) * 1000 + tonumber(ARGV[2]), KEYS[1])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {'new', entry, ARGV[4]}
