-- Renew one worker's lease on a shard, drop leases of the dead, and look at all of them: one atomic look.
-- KEYS: leases (hash), feed, both of the shard's tag; for the shard of the world's record that record, too.
-- ARGV: worker, row ('folded|loaded', '' = hold no lease), beat, then pairs (worker, row) to drop if they still stand so.
-- A row is 'folded|loaded|beat|born|since'. `since` = newest entry of the feed when the row came to be, `born` = the beat
-- that made it; this script keeps both while the row stands. All that was appended later waits for this worker.
-- A renewal that comes late, after a newer one, changes nothing.
-- Returns nil, and changes nothing, when a lease is wanted and the world is marked as moved: see copying.py.
-- Else {born of the worker's row before this ('' = none), newest entry of the feed, worker, row, worker, row...}.
if ARGV[2] ~= '' and KEYS[3] and redis.call('HEXISTS', KEYS[3], 'moved_to') == 1 then
  return nil
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local newest = last[1] and last[1][1] or '0-0'
local mine = redis.call('HGET', KEYS[1], ARGV[1])
local beat, born, since = string.match(mine or '', '|(%d+)|(%d+)|(%d+%-%d+)$')
if not beat or tonumber(beat) < tonumber(ARGV[3]) then
  if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], table.concat({ARGV[2], ARGV[3], born or ARGV[3], since or newest}, '|'))
  end
end
for i = 4, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
local out = redis.call('HGETALL', KEYS[1])
table.insert(out, 1, newest)
table.insert(out, 1, born or '')
return out
