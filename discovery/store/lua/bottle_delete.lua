-- The author takes back a bottle that nobody has picked yet. Deleting again changes nothing.
-- KEYS 4 bottle. ARGV 1 id, 2 caller. Reply ok | none | conflict.
local BOTTLE = KEYS[4]
local id, caller = ARGV[1], ARGV[2]
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'author', 'picks', 'pos')
if not b[1] or b[2] ~= caller then return 'none' end
if b[1] == 'd' then return 'ok' end
if b[1] ~= 'f' or tonumber(b[3]) > 0 then return 'conflict' end
leave_index(tonumber(b[4]))
redis.call('ZREM', ENDS, id)
-- A stub without text stays for a day: a repeated delete or throw finds it, and the id is not used anew meanwhile. It
-- stays on the author's list, which does not show it, so that erasure finds it.
redis.call('HDEL', BOTTLE, 'text', 'lang')
redis.call('HSET', BOTTLE, 'state', 'd')
redis.call('PEXPIREAT', BOTTLE, whole(now + DAY))
return 'ok'
