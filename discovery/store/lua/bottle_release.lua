-- Undo a pick whose two people turned out to be blocked: no trace, no quota, the key is free again.
-- KEYS 4 bottle, 5 op, 6 quota, 7 seen. ARGV 1 id, 2 caller. Reply 1 if released, 0 if it is no longer this pick.
local BOTTLE, OP, QUOTA, SEEN = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id, caller = ARGV[1], ARGV[2]
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'holder')
if b[1] ~= 'p' or b[2] ~= caller then return 0 end
to_sea(id, caller)
redis.call('HINCRBY', BOTTLE, 'picks', -1)
redis.call('ZREM', SEEN, id)
redis.call('DEL', OP)
if used_today(QUOTA, 'picks') > 0 then redis.call('HINCRBY', QUOTA, 'picks', -1) end
return 1
