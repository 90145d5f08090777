-- Replace entries of a stream, each under its id: the stream is written anew with all its ids, so that a follower sees no
-- difference, and nothing of the old content stays in a node of it.
-- KEYS 1 stream. ARGV id and new field 'd' of each. Repeated, it changes nothing. Reply how many were replaced.
local STREAM = KEYS[1]
local content, found = {}, 0
for i = 1, #ARGV, 2 do content[ARGV[i]] = ARGV[i + 1] end
local rows = redis.call('XRANGE', STREAM, '-', '+')
for _, row in ipairs(rows) do
  if content[row[1]] then found = found + 1 end
end
if found == 0 then return 0 end
local last
local about = redis.call('XINFO', 'STREAM', STREAM)
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then last = about[i + 1] end
end
redis.call('DEL', STREAM)
for _, row in ipairs(rows) do
  local id, fields = row[1], row[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'd' and content[id] then fields[i + 1] = content[id] end
  end
  redis.call('XADD', STREAM, id, unpack(fields))
end
redis.call('XSETID', STREAM, last)
return found
