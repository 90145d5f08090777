-- Write down a moderator's decision about a case, before it is carried out. The same again is written once.
-- KEYS: case, audit log, both of the target's tag.
-- ARGV: decision (its fingerprint), most entries of the log, oldest entry kept (ms), then fields of the log's entry.
-- Returns {distinct reporters ever, who is accused of a bottle ('' = nobody), id of the appeal ('' = none)}; empty when
-- there is no such case.
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local c = redis.call('HMGET', KEYS[1], 'total', 'accused', 'appeal_id', 'decision')
if c[4] ~= ARGV[1] then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 4))
  redis.call('XTRIM', KEYS[2], 'MINID', '~', ARGV[3])
  redis.call('HSET', KEYS[1], 'decision', ARGV[1])
end
return {c[1] or '0', c[2] or '', c[3] or ''}
