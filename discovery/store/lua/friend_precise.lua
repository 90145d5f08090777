-- Note that a person shares their place precisely with a friend, and tell the feed, in one step.
-- KEYS: friend halves (hash), feed (stream), both of the person's tag. ARGV: payload, other person, the share.
-- The share stands behind the half, which stays as it is; whatever writes the half again ends it (friend_show.lua,
-- block.lua, friend_halves.lua), and is a change for that reason alone.
-- Always appends: that a share has ended by itself, or by hiding or clearing, leaves no trace in the record.
-- Returns {1, entry id}, or {-1, id of the newest entry} when there is no half: fold up to it and judge again.
local half = string.match(redis.call('HGET', KEYS[1], ARGV[2]) or '', '^[^|]+|%d+|%d')
if not half or string.match(half, '^declined|') then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  return {-1, last[1] and last[1][1] or '0-0'}
end
redis.call('HSET', KEYS[1], ARGV[2], half .. '|precise|' .. ARGV[3])
return {1, redis.call('XADD', KEYS[2], '*', 'k', 'p', 'd', ARGV[1])}
