-- Append a tick to a feed, unless something came in since the caller looked.
-- KEYS[1] feed. ARGV[1] id of the newest entry that the caller saw ('' = none), ARGV[2] payload.
-- Returns the id of the tick, or false. Why the condition: an entry that slipped in after a step of the server's clock
-- has moved hive time already, and an offset computed without it would hold hive time still for the length of the step.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local id = newest[1] and newest[1][1] or ''
if id ~= ARGV[1] then
  return false
end
return redis.call('XADD', KEYS[1], '*', 'k', 't', 'd', ARGV[2])
