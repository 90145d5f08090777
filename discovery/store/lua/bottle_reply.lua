-- Add one reply to a bottle's thread, once. The first, by the holder, takes the bottle out of the sea for good.
-- KEYS 4 bottle, 5 op, 6 seen, 7 replies.
-- ARGV 1 id, 2 fingerprint, 3 caller, 4 person, 5 text, 6 life_ms, 7 replies a thread may have,
-- 8.. people that the caller must never meet, beside those withheld (withheld.lua).
-- Reply {status, record?}; status ok | reused | none | conflict (lapsed, ended or unanswered) | full.
local BOTTLE, OP, SEEN, REPLIES = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id, fingerprint, caller, person = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local excluded = set_of(8)
sweep()
settle(id)

local b = redis.call('HMGET', BOTTLE, 'state', 'author', 'holder', 'person', 'hid')
local state, author, holder = b[1], b[2], b[3]

local function stranger()
  if state and state ~= 'd' and b[4] ~= person and redis.call('ZSCORE', SEEN, id) then return {'conflict'} end
  return {'none'}
end

-- Frozen for both while a moderator is to look, and for a side that reported the thread itself.
local function frozen(side)
  return state == 'm' or string.find(b[5] or '', side, 1, true)
end

local function never_meets(other)
  return excluded[other] or is_withheld(other)
end

-- A holder who is blocked by the author reads what a lapsed hold reads.
local function not_theirs()
  if not state or state == 'd' then return {'none'} end
  if author == caller then return holder and (never_meets(holder) or frozen('a')) and state ~= 'p' and {'none'} or nil end
  if holder == caller then return (never_meets(author) or frozen('h')) and {'conflict'} or nil end
  return stranger()
end

local function refusal()
  if state == 'e' or (author == caller and state ~= 'a') then return {'conflict'} end
  if redis.call('LLEN', REPLIES) >= tonumber(ARGV[7]) then return {'full'} end
end

local known = recall(OP, fingerprint)
if known == 'reused' then return {'reused'} end
local refused = not_theirs()
if refused then return refused end
if known == 'same' then return {'ok', record(id)} end
refused = refusal()
if refused then return refused end

local life = tonumber(ARGV[6])
local ends = now + life
if state == 'p' then
  redis.call('ZREM', HOLDS, id)
  redis.call('HDEL', BOTTLE, 'until')
  redis.call('HSET', BOTTLE, 'state', 'a')
end
redis.call('RPUSH', REPLIES, (author == caller and 'a' or 'h') .. string.format('%013.0f', now) .. ARGV[5])
redis.call('HSET', BOTTLE, 'ends', whole(ends))
redis.call('ZADD', ENDS, ends, id)
for _, key in ipairs({BOTTLE, REPLIES, mine_key(author), mine_key(holder)}) do keep(key, life) end
remember(OP, fingerprint, id)
return {'ok', record(id)}
