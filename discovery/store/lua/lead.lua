-- Lead a stream: go on leading it, take it when nobody does, or take it over from a leader whose beat stands still.
-- KEYS: leader, fence, feed, all of one tag. ARGV: worker, beat, text of a leader that stood still too long ('' = none).
-- Returns {leader as it stands now, newest entry of the feed, server TIME (s), (us)}.
local held = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|'
local text = held
if held and string.sub(held, 1, #mine) == mine then
  text = mine .. string.match(held, '^[^|]*|(%d+)|') .. '|' .. ARGV[2]
elseif not held or held == ARGV[3] then
  text = mine .. redis.call('INCR', KEYS[2]) .. '|' .. ARGV[2]
end
if text ~= held then redis.call('SET', KEYS[1], text) end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local clock = redis.call('TIME')
return {text, last[1] and last[1][1] or '0-0', clock[1], clock[2]}
