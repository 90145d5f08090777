-- Put the zone of one store, or take it away, in one step.
-- KEYS: zones, order of the changes
-- ARGV: store id, zone ('' = take away), most zones of a brand
-- Returns the version of the zones after it; 0 when there was none to take away; -1 when there are too many. A change
-- done twice gives a later version, and nothing else.
local id, zone, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local known = redis.call('HEXISTS', KEYS[1], id)
if zone == '' and known == 0 then
  return 0
end
if zone ~= '' and known == 0 and redis.call('HLEN', KEYS[1]) >= most then
  return -1
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
local version = 1
if last[2] then
  version = tonumber(last[2]) + 1
end
if zone == '' then
  redis.call('HDEL', KEYS[1], id)
else
  redis.call('HSET', KEYS[1], id, zone)
end
redis.call('ZADD', KEYS[2], version, id)
return version
