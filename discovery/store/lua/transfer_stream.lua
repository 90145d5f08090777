-- Append entries under the ids that they had.
-- KEYS: stream. ARGV for each entry: id, number of fields and values together, fields and values.
local at = 1
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, at + 1 + count))
  at = at + 2 + count
end
return 1
