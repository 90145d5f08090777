-- The holder gives an unanswered bottle back to the sea. Giving back again, or after the hold lapsed, changes nothing.
-- KEYS 4 bottle, 5 seen. ARGV 1 id, 2 caller, 3 person. Reply ok | none | conflict.
local BOTTLE, SEEN = KEYS[4], KEYS[5]
local id, caller, person = ARGV[1], ARGV[2], ARGV[3]
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'author', 'holder', 'person')
if not b[1] or b[1] == 'd' then return 'none' end
if b[2] == caller then return 'conflict' end
if b[3] == caller then
  if b[1] ~= 'p' then return 'conflict' end
  to_sea(id, caller)
  redis.call('HINCRBY', BOTTLE, 'backs', 1)
  return 'ok'
end
if b[4] ~= person and redis.call('ZSCORE', SEEN, id) then return 'ok' end
return 'none'
