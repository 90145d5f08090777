-- Note an appeal, one for each suspension, and put the person's case into the queue.
-- KEYS: case, cases, both of the person's tag. ARGV: target, which suspension, appeal id, text, ms that a case is kept.
-- Returns the id of the appeal that stands: of this one, or of the first against the same suspension.
local known = redis.call('HMGET', KEYS[1], 'appeal_of', 'appeal_id')
if known[1] == ARGV[2] then return known[2] end
local clock = redis.call('TIME')
local now_us = string.format('%.0f', tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
redis.call('HSET', KEYS[1], 'appeal_of', ARGV[2], 'appeal_id', ARGV[3], 'appeal', ARGV[4])
redis.call('HDEL', KEYS[1], 'decision')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], now_us, ARGV[1])
  redis.call('HSET', KEYS[1], 'id', ARGV[3])
end
return ARGV[3]
