-- Throw one bottle into the sea, once.
-- KEYS 4 bottle, 5 op, 6 quota, 7 seen (of the author's person), 8 mine.
-- ARGV 1 id, 2 fingerprint, 3 author, 4 person, 5 text, 6 language, 7 life_ms, 8 throws a day.
-- Reply {status, now_ms, used, ends_ms}; status ok | reused | quota.
local BOTTLE, OP, QUOTA, SEEN = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id, fingerprint, author, person = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local life, allowed = tonumber(ARGV[7]), tonumber(ARGV[8])
sweep()

-- The bottle outlives its op row (24 h) and its id follows from the same key, so it is the second record of the throw.
local known, _, ends = recall(OP, fingerprint)
if not known then
  local b = redis.call('HMGET', BOTTLE, 'fp', 'first_end')
  if b[1] then known, ends = b[1] == fingerprint and 'same' or 'reused', tonumber(b[2]) end
end
local used, is_of_today = used_today(QUOTA, 'throws')
if known == 'reused' then return {'reused', now, used, 0} end
if known == 'same' then return {'ok', now, used, ends} end
if used >= allowed then return {'quota', now, used, 0} end

ends = now + life
redis.call('HSET', BOTTLE, 'author', author, 'person', person, 'text', ARGV[5], 'lang', ARGV[6], 'at', whole(now),
  'ends', whole(ends), 'first_end', whole(ends), 'backs', 0, 'picks', 0, 'fp', fingerprint)
enter_index(id)
redis.call('ZADD', ENDS, ends, id)
see(SEEN, id, ends, life)
list_mine(author, 't' .. id, life)
remember(OP, fingerprint, id, ends)
return {'ok', now, use_one(QUOTA, 'throws', is_of_today), ends}
