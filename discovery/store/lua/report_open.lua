-- First step of a report: one for each reporter and target, and so many a day.
-- KEYS: reports (hash) of the reporter's person.
-- ARGV: operation (hash of its key), fingerprint, target, report (JSON), reports a day, ms that reports are kept.
-- Returns {'new' | 'same' | 'reused' | 'quota', server time in ms}.
-- Fields: 'u:' or 'b:' and a target -> report, 'o:' and an operation -> fingerprint, both behind 13 digits of ms.
local DAY, MANY = 86400000, 1000
local REPORTS = KEYS[1]
local operation, fingerprint, target, report = 'o:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local allowed, kept = tonumber(ARGV[5]), tonumber(ARGV[6])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local stamp = string.format('%013.0f', now)

-- What is older than it is kept goes when there is much: the key itself only ends with its last report.
local function forget_old()
  local flat = redis.call('HGETALL', REPORTS)
  for i = 1, #flat, 2 do
    local kind = string.sub(flat[i], 1, 2)
    local oldest = now - (kind == 'o:' and DAY or kept)
    if string.sub(kind, 2) == ':' and tonumber(string.sub(flat[i + 1], 1, 13)) < oldest then
      redis.call('HDEL', REPORTS, flat[i])
    end
  end
end

local known = redis.call('HGET', REPORTS, operation)
if known and tonumber(string.sub(known, 1, 13)) >= now - DAY and string.sub(known, 14) ~= fingerprint then
  return {'reused', now}
end
if redis.call('HLEN', REPORTS) > MANY then forget_old() end
local status = 'same'
if redis.call('HEXISTS', REPORTS, target) == 0 then
  local day = math.floor(now / DAY)
  local quota = redis.call('HMGET', REPORTS, 'day', 'today')
  local used = tonumber(quota[1]) == day and tonumber(quota[2]) or 0
  if used >= allowed then return {'quota', now} end
  redis.call('HSET', REPORTS, 'day', day, 'today', used + 1, target, stamp .. report)
  redis.call('PEXPIRE', REPORTS, kept)
  status = 'new'
end
if redis.call('HLEN', REPORTS) <= MANY * 10 then redis.call('HSET', REPORTS, operation, stamp .. fingerprint) end
return {status, now}
