-- Append a tick to a feed, unless a jump of the server's clock came in since the caller looked.
-- KEYS[1] feed. ARGV[1] latest id (ms) that the newest entry may have, ARGV[2] payload.
-- Returns the id of the tick, or false. Why the condition: an entry that came in after a step forward has moved hive time
-- already, and an offset computed without it would hold hive time still for the length of the step.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if newest[1] and tonumber(string.match(newest[1][1], '^%d+')) > tonumber(ARGV[1]) then
  return false
end
return redis.call('XADD', KEYS[1], '*', 'k', 't', 'd', ARGV[2])
