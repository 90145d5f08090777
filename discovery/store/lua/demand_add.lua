-- Add searches of one day, unless that day is closed.
-- KEYS: days, searches by cell, searchers
-- ARGV: day, TTL (s), most members of searchers, number n of cells, n times cell and searches, members of searchers
-- Returns 1; 0 when the day is closed and nothing was added.
local day = tonumber(ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'closed') or -1) >= day then
  return 0
end
redis.call('HSET', KEYS[1], day, '')
local n = tonumber(ARGV[4])
for i = 5, 4 + 2 * n, 2 do
  redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
end
local room = redis.call('SCARD', KEYS[3]) < tonumber(ARGV[3])
for i = 5 + 2 * n, #ARGV do
  if room then
    redis.call('SADD', KEYS[3], ARGV[i])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[2])
return 1
