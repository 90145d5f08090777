-- Take one bottle, uniform over those this person may have, and make the caller its one owner.
-- KEYS 4 op, 5 quota, 6 seen (of the caller's person; holds own bottles too), 7 mine.
-- ARGV 1 fingerprint, 2 caller, 3 person, 4 hold_ms, 5 life_ms, 6 picks a day, 7 '1' = enumerate whatever the size,
-- 8..23 sixteen random 32-bit numbers for the draws, 24..27 four more for the choice after an enumeration,
-- 28.. authors that this person must never meet, beside those withheld (withheld.lua).
-- Reply {status, now_ms, used, record?}; status ok (claimed now) | same (a repeat; record false when the caller has it
-- no more) | reused | quota | empty | again.
local OP, QUOTA, SEEN = KEYS[4], KEYS[5], KEYS[6]
local fingerprint, caller, person = ARGV[1], ARGV[2], ARGV[3]
local hold, life, allowed = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local DRAWS, FIRST_DRAW, FIRST_CHOICE, LAST_CHOICE, FIRST_AUTHOR = 16, 8, 24, 27, 28
local CHUNK = 256             -- positions read at a time while enumerating: bounds the memory of one call
local excluded = set_of(FIRST_AUTHOR)
local _, behind = sweep()

local function admissible(id)
  if redis.call('ZSCORE', SEEN, id) then return false end
  local b = redis.call('HMGET', bottle_key(id), 'author', 'person', 'ends')
  return b[1] ~= caller and b[2] ~= person and not excluded[b[1]] and tonumber(b[3]) > now and not is_withheld(b[1])
end

-- Exactly uniform on 0..n-1: numbers in the last, incomplete run of n are refused. nil then.
local function below(random, n)
  if random >= 4294967296 - 4294967296 % n then return nil end
  return random % n
end

-- Draws with replacement, first admissible: each admissible bottle is as likely as any other.
local function draw(n)
  for i = FIRST_DRAW, FIRST_DRAW + DRAWS - 1 do
    local pos = below(tonumber(ARGV[i]), n)
    local id = pos and redis.call('HGET', INDEX, pos)
    if id and admissible(id) then return id end
  end
end

-- No fewer than the floating bottles that this person may not have, but for those of withheld authors: who reported
-- ones are, costs a command each. Where they are many, the worker sends a few rounds of draws more, then enumerates.
local function exclusions()
  local n = redis.call('ZCARD', SEEN) + redis.call('ZCOUNT', ENDS, '-inf', now)
  for author in pairs(excluded) do n = n + redis.call('ZCARD', mine_key(author)) end
  return n
end

local function enumerate(n)
  local found = {}
  for first = 0, n - 1, CHUNK do
    local positions = {}
    for pos = first, math.min(first + CHUNK, n) - 1 do positions[#positions + 1] = pos end
    for _, id in ipairs(redis.call('HMGET', INDEX, unpack(positions))) do
      if admissible(id) then found[#found + 1] = id end
    end
  end
  return found
end

-- The draws' numbers were all refused for these very positions, so the choice needs numbers of its own. That none of
-- the four fits happens once in (2^32 / #found)^4 times; the last one is then taken as it is, for the choice must end.
local function choose(found)
  for i = FIRST_CHOICE, LAST_CHOICE do
    local at = below(tonumber(ARGV[i]), #found)
    if at then return found[at + 1] end
  end
  return found[tonumber(ARGV[LAST_CHOICE]) % #found + 1]
end

-- An end seen to the second would tell the throw to the second, so a hold that would reach the end stops at the full
-- hour before it (but in the bottle's last hour, where no such hour is left).
local function hold_until(ends)
  local full_hour = ends - ends % HOUR
  return math.min(now + hold, full_hour > now and full_hour or ends)
end

local function claim(id, is_of_today)
  local b = redis.call('HMGET', bottle_key(id), 'pos', 'ends', 'picks')
  local ends = tonumber(b[2])
  local lapses = hold_until(ends)
  leave_index(tonumber(b[1]))
  redis.call('HSET', bottle_key(id), 'state', 'p', 'holder', caller, 'hperson', person, 'until', whole(lapses),
    'picks', tonumber(b[3]) + 1)
  redis.call('ZADD', HOLDS, lapses, id)
  see(SEEN, id, ends, life)
  list_mine(caller, 'p' .. id, life)
  remember(OP, fingerprint, id)
  return {'ok', now, use_one(QUOTA, 'picks', is_of_today), record(id)}
end

local used, is_of_today = used_today(QUOTA, 'picks')
local known, taken = recall(OP, fingerprint)
if known == 'reused' then return {'reused', now, used} end
if known == 'same' then
  settle(taken)
  return {'same', now, used, redis.call('HGET', bottle_key(taken), 'holder') == caller and record(taken)}
end
if used >= allowed then return {'quota', now, used} end

local n = redis.call('HLEN', INDEX)
local id = n > 0 and draw(n)
if id then return claim(id, is_of_today) end
if behind then return {'again', now, used} end    -- more lapsed holds wait to come back: the sea is not yet known empty
if n == 0 then return {'empty', now, used} end
if ARGV[7] ~= '1' and n > 4 * exclusions() then return {'again', now, used} end
local found = enumerate(n)
if #found == 0 then return {'empty', now, used} end
return claim(choose(found), is_of_today)
