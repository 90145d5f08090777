-- Close all days of a brand up to one: no search is added to them any more.
-- KEYS: days. ARGV: last day to close
-- Returns the closed days that are not yet published.
local day = tonumber(ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'closed') or -1) < day then
  redis.call('HSET', KEYS[1], 'closed', day)
end
local open = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field ~= 'closed' and tonumber(field) <= day then
    open[#open + 1] = field
  end
end
return open
