-- Head of every bottle script: the clock, the dense index, holds and ends. The script's own file follows in one chunk.
--
-- All keys of bottles carry the hash tag {sea}, so they live in one slot. Keys whose names the caller knows come in
-- KEYS; keys of a bottle that is drawn or swept, and of its author and holder, are built here from the prefix '{sea}:'.
-- On Cluster that is allowed because they can only be in the slot that KEYS already named.
--
-- KEYS[1] index: hash position -> id, positions 0..n-1 without a gap, so HLEN is the count of floating bottles.
-- KEYS[2] holds: zset id -> when the hold lapses (ms). KEYS[3] ends: zset id -> when it ends, or is buried (ms).
--
-- States of a bottle hash: 'f' floats (at 'pos', which says nothing in another state), 'p' picked (has holder, hperson,
-- until), 'a' answered, 'e' ended, 'd' deleted by its author, 'm' held for a moderator (what it 'was': f, a or e). Only
-- 'f' is in the index, only 'p' in holds; all but 'd' are in ends. 'hid' names the sides ('a' author, 'h' holder) that
-- reported a thread: it is hidden from them.

local INDEX, HOLDS, ENDS = KEYS[1], KEYS[2], KEYS[3]
local SWEEP = 16              -- lapsed holds, and ended bottles, that one script handles: bounds its time
local DAY = 86400000          -- ms; also how long an ended bottle stays readable for the two of them
local HOUR = 3600000
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)

-- Above 10^14 Lua's tostring switches to exponents, so numbers that are joined to text go through this.
local function whole(number) return string.format('%.0f', number) end
local function bottle_key(id) return '{sea}:bottle:' .. id end
local function replies_key(id) return '{sea}:replies:' .. id end
local function mine_key(user) return '{sea}:mine:' .. user end

-- Let a key outlive every bottle that it can name now: none ends later than a whole life from now.
local function keep(key, life) redis.call('PEXPIREAT', key, whole(now + life + 2 * DAY)) end

local function enter_index(id)
  local pos = redis.call('HLEN', INDEX)
  redis.call('HSET', INDEX, pos, id)
  redis.call('HSET', bottle_key(id), 'state', 'f', 'pos', pos)
end

local function leave_index(pos)
  local last = redis.call('HLEN', INDEX) - 1
  if pos ~= last then
    local moved = redis.call('HGET', INDEX, last)
    redis.call('HSET', INDEX, pos, moved)
    redis.call('HSET', bottle_key(moved), 'pos', pos)
  end
  redis.call('HDEL', INDEX, last)
end

-- Scores of a person's list are microseconds, so that one number pages it: two scripts never share one, each takes
-- longer than that.
local function list_mine(user, entry, life)
  redis.call('ZADD', mine_key(user), whole(now_us), entry)
  keep(mine_key(user), life)
end

local function see(seen, id, ends, life)
  redis.call('ZREMRANGEBYSCORE', seen, '-inf', now)
  redis.call('ZADD', seen, ends, id)
  keep(seen, life)
end

-- A picked bottle goes back to the sea; its holder keeps nothing but having seen it.
local function to_sea(id, holder)
  redis.call('ZREM', HOLDS, id)
  redis.call('ZREM', mine_key(holder), 'p' .. id)
  redis.call('HDEL', bottle_key(id), 'holder', 'hperson', 'until')
  enter_index(id)
end

-- Over: out of the sea, readable by the two of them for a day more, then buried. The TTL is for a sea nobody sweeps.
local function end_bottle(id, state, pos)
  if state == 'f' then leave_index(tonumber(pos)) end
  redis.call('HSET', bottle_key(id), 'state', 'e')
  redis.call('HDEL', bottle_key(id), 'was')
  redis.call('ZADD', ENDS, now + DAY, id)
  redis.call('PEXPIREAT', bottle_key(id), whole(now + DAY + HOUR))
  redis.call('PEXPIREAT', replies_key(id), whole(now + DAY + HOUR))
end

local function bury(id, author, holder)
  redis.call('ZREM', ENDS, id)
  redis.call('DEL', bottle_key(id), replies_key(id))
  if author then redis.call('ZREM', mine_key(author), 't' .. id) end
  if holder then redis.call('ZREM', mine_key(holder), 'p' .. id) end
end

-- A bottle that was reported too often is out of everybody's sight, until a moderator decides or it ends: a thread is
-- then buried at once, for the case has its text. While nobody answered, its author sees it float and end as before.
local function hold_for_moderation(id, state, holder)
  if state == 'f' then leave_index(tonumber(redis.call('HGET', bottle_key(id), 'pos'))) end
  if state == 'p' then
    redis.call('ZREM', HOLDS, id)
    redis.call('ZREM', mine_key(holder), 'p' .. id)
    redis.call('HDEL', bottle_key(id), 'holder', 'hperson', 'until')
    state = 'f'
  end
  redis.call('HSET', bottle_key(id), 'state', 'm', 'was', state)
  if state == 'f' then
    local ends = tonumber(redis.call('HGET', bottle_key(id), 'ends'))
    redis.call('PEXPIREAT', bottle_key(id), whole(ends + 2 * DAY))
  end
end

-- Bring one bottle up to `now`: a hold lapses, with the bottle's end at the latest; then a bottle past its end ends, or
-- one that ended a day ago is buried.
local function settle(id)
  local b = redis.call('HMGET', bottle_key(id), 'state', 'until', 'ends', 'holder', 'author', 'was')
  local state = b[1]
  if state == 'p' and math.min(tonumber(b[2]), tonumber(b[3])) <= now then
    to_sea(id, b[4])
    state = 'f'
  end
  if state == 'm' and b[6] ~= 'f' then
    if tonumber(b[3]) <= now then bury(id, b[5], b[4]) end
  elseif state and state ~= 'e' and state ~= 'd' and tonumber(b[3]) <= now then
    end_bottle(id, state, redis.call('HGET', bottle_key(id), 'pos'))
  elseif not state or state == 'e' then
    local due = redis.call('ZSCORE', ENDS, id)
    if due and tonumber(due) <= now then bury(id, b[5], b[4]) end
  end
end

local function sweep()
  local lapsed = redis.call('ZRANGEBYSCORE', HOLDS, '-inf', now, 'LIMIT', 0, SWEEP)
  for _, id in ipairs(lapsed) do settle(id) end
  local ended = redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, SWEEP)
  for _, id in ipairs(ended) do settle(id) end
  return #lapsed + #ended, #lapsed == SWEEP
end

-- Uses of `what` today, and whether the row is today's. The day is server TIME's, so no key's name can hold it.
local function used_today(quota, what)
  local q = redis.call('HMGET', quota, 'day', what)
  if tonumber(q[1]) ~= math.floor(now / DAY) then return 0, false end
  return tonumber(q[2]) or 0, true
end

local function use_one(quota, what, is_of_today)
  if not is_of_today then
    local today = math.floor(now / DAY)
    redis.call('DEL', quota)
    redis.call('HSET', quota, 'day', today)
    redis.call('PEXPIREAT', quota, whole((today + 1) * DAY + HOUR))
  end
  return redis.call('HINCRBY', quota, what, 1)
end

-- An operation row is the fingerprint (32 hex), the bottle's id (32 hex) and a number that the operation answers with.
local function remember(op, fingerprint, id, number)
  redis.call('SET', op, fingerprint .. id .. whole(number or 0), 'PX', DAY)
end

local function recall(op, fingerprint)
  local row = redis.call('GET', op)
  if not row then return nil end
  if string.sub(row, 1, 32) ~= fingerprint then return 'reused' end
  return 'same', string.sub(row, 33, 64), tonumber(string.sub(row, 65))
end

local function set_of(first)
  local set = {}
  for i = first, #ARGV do set[ARGV[i]] = true end
  return set
end

-- What the worker renders a bottle from: fields, then its replies ('a' or 'h', ms in 13 digits, text).
local function record(id)
  local fields = redis.call('HMGET', bottle_key(id), 'state', 'author', 'holder', 'text', 'lang', 'at', 'backs', 'hid',
    'was')
  local was = table.remove(fields)
  if fields[1] == 'm' and was == 'f' then fields[1] = 'f' end
  local answered = fields[1] == 'a' or fields[1] == 'e'
  local replies = answered and redis.call('LRANGE', replies_key(id), 0, -1) or {}
  return {id, fields, replies}
end
