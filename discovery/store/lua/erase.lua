-- Erase one person: every record of theirs in this shard, the tombstone, the job for what lies elsewhere, and the feed, in
-- one step.
-- KEYS: tombstones (hash), jobs (hash), feed, then what is to go; the last is the list of idempotent operations (zset of
-- keys of this tag, which go too). A person whose id nobody knows any more ('') has only the first three.
-- ARGV: id, name of the tombstone, ms at which it was asked for, the human behind the account ('' = none known), the life
-- that is to end; '' = what was asked for then, and is said again (a log, a failover).
-- An act ends the life that it was begun in, whatever clock the erasure before it went by, and is later than that one. What
-- is said again erases nobody who was erased at that time or later already: they may have come back since.
-- Returns {1, entry id}, or {0, id of the newest entry}.
local stands = redis.call('HGET', KEYS[1], ARGV[2])
local life, at = 0, -1
if stands then
  life, at = string.match(stands, '^(%d+)|(%d+)$')
end
local asked = tonumber(ARGV[3])
local done = tonumber(at) >= asked
if ARGV[5] ~= '' then
  done = tonumber(life) ~= tonumber(ARGV[5])
  asked = math.max(asked, tonumber(at) + 1)
end
asked = string.format('%.0f', asked)
if done then
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
  return {0, last[1] and last[1][1] or '0-0'}
end
life = string.format('%d', tonumber(life) + 1)
for i = 4, #KEYS do
  if i == #KEYS then
    for _, operation in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do redis.call('DEL', operation) end
  end
  redis.call('DEL', KEYS[i])
end
redis.call('HSET', KEYS[1], ARGV[2], life .. '|' .. asked)
local said = '["' .. ARGV[1] .. '","' .. ARGV[2] .. '",' .. asked .. ',' .. life .. ']'
local entry = redis.call('XADD', KEYS[3], '*', 'k', 'e', 'd', said)
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], life .. '|' .. entry .. '|' .. ARGV[4])
end
return {1, entry}
