-- Count one friend request of a human, of which there are so many a day.
-- KEYS: requests (hash) of that human. ARGV: day since 1970, hash of the person asked, how many a day, TTL in ms.
-- Whom they have asked today counts once, so that a repeat is free. A worker whose clock is behind counts into the day
-- that stands. Returns 1, or 0 when all are used up.
local day = redis.call('HGET', KEYS[1], 'day')
if not day or tonumber(day) < tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'day', ARGV[1])
elseif redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  return 1
elseif redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[2], '')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
