-- Count a report of a person; with enough distinct reporters the person is on hold until somebody decides.
-- KEYS: case, cases, record and feed of the person, all of their tag.
-- ARGV: target, reporter (keyed hash), reason, note, report id, reporters for a hold, ms that a case is kept,
-- settings payload of the hold for the feed, its field in the record, its value, '0' = nobody takes part under that id:
-- as much is written as for a first report, and nothing is left.
-- Returns {1, entry id} when the hold began now, else {0, id of the newest entry}: folding up to it shows the hold.
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local stood = redis.call('HGET', KEYS[1], 'id')
local function newest()
  local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)
  return {0, last[1] and last[1][1] or '0-0'}
end
if ARGV[11] == '0' and stood then
  redis.call('HSET', KEYS[1], 'id', stood)
  return newest()
end
local open = count_report(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[7], now_us)
if ARGV[11] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif open >= tonumber(ARGV[6]) and redis.call('HGET', KEYS[1], 'held') ~= '1' then
  redis.call('HSET', KEYS[1], 'held', '1')
  redis.call('HSET', KEYS[3], ARGV[9], ARGV[10])
  return {1, redis.call('XADD', KEYS[4], '*', 'k', 's', 'd', ARGV[8])}
end
return newest()
