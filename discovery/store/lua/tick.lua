-- Append a tick that sets hive time to what the leader's clock says, and renew the leader.
-- KEYS: feed, leader, both of one tag.
-- ARGV: 'worker|token', beat, hive time now in ms, offset of the last tick in ms, epoch in ms, most that id time may be
-- off before the offset changes.
-- Returns {id, offset in ms, newest entry before it, server TIME (s), (us)}, or false when refused.
-- The offset is found here, beside the id: a step of the server's clock between a look and the tick would else carry an
-- hour into hive time.
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
local newest = '0-0'
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then newest = info[i + 1] end
end
local mine = ARGV[1] .. '|'
local held = redis.call('GET', KEYS[2])
if not held or string.sub(held, 1, #mine) ~= mine then return false end
redis.call('SET', KEYS[2], mine .. ARGV[2])
local clock = redis.call('TIME')
local server_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local newest_ms = tonumber(string.match(newest, '^%d+'))
local id_ms = math.max(server_ms, newest_ms)
local offset = tonumber(ARGV[4])
local exact = tonumber(ARGV[3]) - id_ms
-- Behind its newest id the server repeats that ms: every tick must then carry the time that passed.
if server_ms < newest_ms or math.abs(exact - offset) > tonumber(ARGV[6]) then offset = exact end
local payload = struct.pack('<i8i8', offset, tonumber(ARGV[5]))
local id = redis.call('XADD', KEYS[1], string.format('%.0f-*', id_ms), 'k', 't', 'd', payload)
return {id, string.format('%.0f', offset), newest, clock[1], clock[2]}
