-- One step of writing a stream anew with other content in some entries: entries after one id and up to another go into a
-- copy, each under its id. The last step puts the copy in place of the stream, in one go with all that came since.
-- KEYS 1 stream, 2 copy, 3 lock. ARGV 1 token of who rewrites, 2 the id to go on after ('' begins), 3 the last id of this
-- step ('+' ends), 4 ms that lock and copy live without a further step; then id and new field 'd' of each to replace.
-- Reply 1, or 0 when somebody else rewrites or this rewrite was broken off: nothing was changed then, and it begins again.
local STREAM, COPY, LOCK = KEYS[1], KEYS[2], KEYS[3]
local token, after, to, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('GET', LOCK)
if after == '' then
  if holder and holder ~= token then return 0 end
  redis.call('DEL', COPY)
else
  local last = redis.call('XREVRANGE', COPY, '+', '-', 'COUNT', 1)[1]
  if holder ~= token or not last or last[1] ~= after then return 0 end
end
local content = {}
for i = 5, #ARGV, 2 do content[ARGV[i]] = ARGV[i + 1] end
for _, row in ipairs(redis.call('XRANGE', STREAM, after == '' and '-' or '(' .. after, to)) do
  local id, fields = row[1], row[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'd' and content[id] then fields[i + 1] = content[id] end
  end
  redis.call('XADD', COPY, id, unpack(fields))
end
redis.call('SET', LOCK, token, 'PX', lease_ms)
redis.call('PEXPIRE', COPY, lease_ms)
if to ~= '+' then return 1 end
redis.call('DEL', LOCK)
if redis.call('EXISTS', COPY) == 1 then
  local about = redis.call('XINFO', 'STREAM', STREAM)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then redis.call('XSETID', COPY, about[i + 1]) end
  end
  redis.call('PERSIST', COPY)
  redis.call('RENAME', COPY, STREAM)
end
return 1
