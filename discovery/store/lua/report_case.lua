-- Head of the scripts that count a report: the case of one target, and the queue in which open cases stand.
-- A case is a hash: 'id' (of what opened it), 'total' (distinct reporters ever), 'open' (since the last decision),
-- 'held', 'decision', 'appeal…', 'content' and 'accused' of a bottle, and 'r:<reporter>' -> ms in 13 digits and JSON.
local MOST_REPORTERS, NOTES = 1000, 20

-- Count a report once. Returns the distinct reporters since the last decision, and whether this one was new.
local function count_report(case, cases, target, reporter, reason, note, report_id, ttl, now_us)
  local total = tonumber(redis.call('HGET', case, 'total') or '0')
  local open = tonumber(redis.call('HGET', case, 'open') or '0')
  if redis.call('HEXISTS', case, 'r:' .. reporter) == 1 or total >= MOST_REPORTERS then return open, false end
  local row = {id = report_id, reason = reason, note = total < NOTES and note or ''}
  redis.call('HDEL', case, 'decision')  -- the next one is written down, should it be the same again
  redis.call('HSET', case, 'r:' .. reporter, string.format('%013.0f', math.floor(now_us / 1000)) .. cjson.encode(row))
  redis.call('HINCRBY', case, 'total', 1)
  open = redis.call('HINCRBY', case, 'open', 1)
  redis.call('PEXPIRE', case, ttl)
  if not redis.call('ZSCORE', cases, target) then
    redis.call('ZADD', cases, string.format('%.0f', now_us), target)
    redis.call('HSET', case, 'id', report_id)
  end
  return open, true
end
