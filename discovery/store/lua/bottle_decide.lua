-- End the hold of a bottle as a moderator decided. A repeat changes nothing.
-- KEYS 4 bottle, 5 case. ARGV 1 id, 2 'free' (back to what it was) or 'remove' (for good, from everybody). Reply ok.
local BOTTLE, CASE = KEYS[4], KEYS[5]
local id, act = ARGV[1], ARGV[2]
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'was', 'author', 'holder', 'pos')
local state = b[1]
if not state or state == 'd' then return 'ok' end
if act == 'remove' then
  if state == 'f' then leave_index(tonumber(b[5])) end
  redis.call('ZREM', HOLDS, id)
  redis.call('ZREM', ENDS, id)
  if b[4] then redis.call('ZREM', mine_key(b[4]), 'p' .. id) end
  redis.call('DEL', replies_key(id))
  redis.call('HDEL', BOTTLE, 'text', 'lang', 'was', 'hid', 'holder', 'hperson', 'until')
  redis.call('HSET', BOTTLE, 'state', 'd')
  redis.call('PEXPIREAT', BOTTLE, whole(now + DAY))  -- a stub, as of a deleted one: bottle_delete.lua
elseif state == 'm' then
  redis.call('HDEL', BOTTLE, 'was')
  redis.call('HSET', BOTTLE, 'state', b[2])
  if b[2] == 'f' then
    enter_index(id)
    redis.call('PERSIST', BOTTLE)
  end
end
return 'ok'
