-- Make one checkpoint of a shard current and trim its feed behind the one before, in one step.
-- KEYS: leader, checkpoint, feed, then the new chunks, then those of the checkpoint that is replaced; all of one tag.
-- ARGV: 'worker|token', version that is replaced ('' = none), new version, number of new chunks, bytes, checksum, offset
-- (id of the last entry folded), meta, ms that replaced chunks stay.
-- Returns {'ok', entries trimmed}, or why nothing was changed: {'fenced'} another leads; {'changed'} another checkpoint
-- was made current since the caller looked; {'behind'} it stands further on; {'lost'} the last entry folded does not
-- stand in the feed, so nobody could go on from there; {'lapsed'} a new chunk is gone.
-- The feed keeps all behind the replaced checkpoint: who reads that one still, or was at the end of the feed not long ago,
-- finds its place.
local mine = ARGV[1] .. '|'
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #mine) ~= mine then return {'fenced'} end
local current = redis.call('HMGET', KEYS[2], 'version', 'offset')
if (current[1] or '') ~= ARGV[2] then return {'changed'} end
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
if current[2] then
  local old_ms, old_seq = parts(current[2])
  local new_ms, new_seq = parts(ARGV[7])
  if new_ms < old_ms or (new_ms == old_ms and new_seq < old_seq) then return {'behind'} end
end
if #redis.call('XRANGE', KEYS[3], ARGV[7], ARGV[7]) == 0 then return {'lost'} end
local count = tonumber(ARGV[4])
for i = 4, count + 3 do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {'lapsed'} end
end
for i = 4, count + 3 do redis.call('PERSIST', KEYS[i]) end
redis.call('HSET', KEYS[2], 'version', ARGV[3], 'chunks', ARGV[4], 'bytes', ARGV[5], 'checksum', ARGV[6],
  'offset', ARGV[7], 'meta', ARGV[8])
for i = count + 4, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[9]) end
return {'ok', current[2] and redis.call('XTRIM', KEYS[3], 'MINID', current[2]) or 0}
