-- Erase one person from the sea. Their own bottles go, but a thread of which the other has words: of that their own words
-- and name go. A bottle that they hold unanswered goes back to the sea.
-- KEYS 4 tombstones of the sea (hash), 5 withheld, 6 mine, then what else is to go. ARGV 1 person, 2 name of the
-- tombstone, 3 life.
-- Done once a life: what comes later is of another. Reply how many bottles it touched.
local TOMBSTONES, WITHHELD, MINE = KEYS[4], KEYS[5], KEYS[6]
local person, name, life = ARGV[1], ARGV[2], ARGV[3]
sweep()
local stands = redis.call('HGET', TOMBSTONES, name)
if stands and tonumber(stands) >= tonumber(life) then return 0 end
redis.call('HSET', TOMBSTONES, name, life)

-- The replies of one side ('a' author, 'h' holder) go.
local function silence(id, side)
  local kept = 0
  for _, reply in ipairs(redis.call('LRANGE', replies_key(id), 0, -1)) do
    if string.sub(reply, 1, 1) == side then redis.call('LREM', replies_key(id), 0, reply) else kept = kept + 1 end
  end
  return kept
end

local function gone(id, state, pos, holder)
  if state == 'f' then leave_index(tonumber(pos)) end
  redis.call('ZREM', HOLDS, id)
  bury(id, nil, holder)
end

local function forget_author(id, b)
  local state, holder, answered = b[1], b[2], b[1] == 'a' or b[1] == 'e' or (b[1] == 'm' and b[4] ~= 'f')
  if not (answered and holder and holder ~= '') then return gone(id, state, b[3], holder) end
  if silence(id, 'a') == 0 then return gone(id, state, b[3], holder) end
  redis.call('HDEL', bottle_key(id), 'lang', 'fp')
  redis.call('HSET', bottle_key(id), 'author', '', 'person', '', 'text', '', 'lang', '')
end

local function forget_holder(id, b)
  if b[1] == 'p' then return to_sea(id, person) end
  if b[5] == '' then return gone(id, b[1], b[3], nil) end
  silence(id, 'h')
  redis.call('HSET', bottle_key(id), 'holder', '', 'hperson', '')
end

local touched = 0
for _, entry in ipairs(redis.call('ZRANGE', MINE, 0, -1)) do
  local id = string.sub(entry, 2)
  local b = redis.call('HMGET', bottle_key(id), 'state', 'holder', 'pos', 'was', 'author')
  if b[1] and string.sub(entry, 1, 1) == 't' and b[5] == person then
    forget_author(id, b)
    touched = touched + 1
  elseif b[1] and string.sub(entry, 1, 1) == 'p' and b[2] == person then
    forget_holder(id, b)
    touched = touched + 1
  end
end
if redis.call('HDEL', WITHHELD, person) == 1 then redis.call('HDEL', WITHHELD, '') end  -- no longer what its stamp says
for i = 6, #KEYS do redis.call('DEL', KEYS[i]) end
return touched
