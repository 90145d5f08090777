-- Make one store set of a brand current, in one step.
-- KEYS: current, then the new set's chunks, then the old set's chunks
-- ARGV: expected version ('0' = none yet), new version, number of new chunks, seconds that the old chunks stay
-- Returns 'ok'; 'conflict' when another import was faster; 'lapsed' when a new chunk is gone. Only 'ok' changes anything.
local expected, version, count, stay_s = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local current = redis.call('HGET', KEYS[1], 'version') or '0'
if current ~= expected then
  return 'conflict'
end
for i = 2, count + 1 do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    return 'lapsed'
  end
end
for i = 2, count + 1 do
  redis.call('PERSIST', KEYS[i])
end
redis.call('HSET', KEYS[1], 'version', version, 'chunks', ARGV[3])
for i = count + 2, #KEYS do
  redis.call('EXPIRE', KEYS[i], stay_s)
end
return 'ok'
