-- Change the settings in a person's record and tell the feed, in one step.
-- KEYS: record (hash), feed (stream), both of the person's tag.
-- ARGV: the visibility that the worker judged by ('' = any), payload, then field, value pairs.
-- Always appends, unless the record holds another visibility: an unchanged record may still differ from what was folded
-- since (a token's age claim comes by reports too).
-- Returns {1, entry id}, or {0, id of the newest entry}: fold up to it and judge again.
local stands = redis.call('HGET', KEYS[1], 'visibility') or 'nobody'
if ARGV[1] ~= '' and ARGV[1] ~= stands then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  return {0, last[1] and last[1][1] or '0-0'}
end
if #ARGV > 2 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
end
return {1, redis.call('XADD', KEYS[2], '*', 'k', 's', 'd', ARGV[2])}
