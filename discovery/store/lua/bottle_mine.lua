-- A page of one person's bottles, newest first.
-- KEYS 4 mine. ARGV 1 entries before this score ('+inf' = from the newest), 2 how many.
-- Reply: rows {entry ('t' or 'p' and the id), score, state, ends, until, author, holder}; state 'm' is not shown.
local MINE = KEYS[4]
sweep()
local page = redis.call('ZREVRANGEBYSCORE', MINE, ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local rows = {}
for i = 1, #page, 2 do
  local entry, score = page[i], page[i + 1]
  local id = string.sub(entry, 2)
  settle(id)
  local b = redis.call('HMGET', bottle_key(id), 'state', 'ends', 'until', 'author', 'holder', 'was', 'hid')
  if b[1] == 'm' and b[6] == 'f' then b[1] = 'f' end
  if string.find(b[7] or '', string.sub(entry, 1, 1) == 't' and 'a' or 'h', 1, true) then b[1] = 'm' end
  -- An entry whose bottle has gone by its TTL, unswept, goes too. A hold that lapsed just now took its entry along.
  if not b[1] then redis.call('ZREM', MINE, entry) end
  rows[#rows + 1] = {entry, score, b[1], b[2], b[3], b[4], b[5]}
end
return rows
