-- Change fields of one record and tell the feed, in one step, so that no crash falls between them.
-- KEYS: record (hash), feed (stream), both of the person's tag.
-- ARGV: kind, payload, then field, value pairs; an empty value deletes the field.
-- A clear (kind c) always counts as a change: what it ends came by reports, which leave no trace in the record.
-- Returns {1, entry id} when something changed, else {0, id of the newest entry}: folding up to it shows the record.
local changed = ARGV[1] == 'c' and 1 or 0
for i = 3, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if ARGV[i + 1] == '' then
    if old then
      redis.call('HDEL', KEYS[1], ARGV[i])
      changed = 1
    end
  elseif old ~= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = 1
  end
end
if changed == 1 then
  return {1, redis.call('XADD', KEYS[2], '*', 'k', ARGV[1], 'd', ARGV[2])}
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return {0, last[1] and last[1][1] or '0-0'}
