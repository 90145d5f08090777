-- Write what a person shows another, and tell the feed, in one step.
-- KEYS: friend halves (hash), feed (stream), both of the person's tag.
-- ARGV: payload, other person, half, how many halves a person may have (0: any number, for one that only ends something).
-- Returns {1, entry id} when something changed, else {0, id of the newest entry}: folding up to it shows the half;
-- or {-1, the same} when there is no room for another half.
local old = redis.call('HGET', KEYS[1], ARGV[2])
local most = tonumber(ARGV[4])
local full = not old and most > 0 and redis.call('HLEN', KEYS[1]) >= most
if full or old == ARGV[3] then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  return {full and -1 or 0, last[1] and last[1][1] or '0-0'}
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return {1, redis.call('XADD', KEYS[2], '*', 'k', 'f', 'd', ARGV[1])}
