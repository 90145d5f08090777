-- First step of a report: one for each reporter and target, and so many a day.
-- KEYS: reports (hash), operation row, both of the tag of the reporter's person.
-- ARGV: fingerprint, target, report (JSON), reports a day, ms that reports are kept, ms that the operation is kept.
-- Returns {'new' | 'same' | 'reused' | 'quota', server time in ms}.
local DAY, MANY = 86400000, 1000
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local known = redis.call('GET', KEYS[2])
if known and known ~= ARGV[1] then return {'reused', now} end

-- Reports older than they are kept go when there are many: the key itself only ends with its last one.
local function forget_old()
  local oldest = now - tonumber(ARGV[5])
  local flat = redis.call('HGETALL', KEYS[1])
  for i = 1, #flat, 2 do
    local at = tonumber(string.sub(flat[i + 1], 1, 13))
    if string.find(flat[i], ':', 1, true) and at < oldest then redis.call('HDEL', KEYS[1], flat[i]) end
  end
end

local status = 'same'
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then
  local day = math.floor(now / DAY)
  local quota = redis.call('HMGET', KEYS[1], 'day', 'today')
  local used = tonumber(quota[1]) == day and tonumber(quota[2]) or 0
  if used >= tonumber(ARGV[4]) then return {'quota', now} end
  if redis.call('HLEN', KEYS[1]) > MANY then forget_old() end
  redis.call('HSET', KEYS[1], 'day', day, 'today', used + 1, ARGV[2], string.format('%013.0f', now) .. ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  status = 'new'
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[6])
return {status, now}
