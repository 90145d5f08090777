-- Name the other of the two, for a block. An unanswered bottle goes back to the sea at once.
-- KEYS 4 bottle, 5 seen. ARGV 1 id, 2 caller, 3 person. Reply {status, other?}; status ok | none | conflict.
-- Who gave the bottle back may still block its author; the author may not reach whoever holds it unanswered.
local BOTTLE, SEEN = KEYS[4], KEYS[5]
local id, caller, person = ARGV[1], ARGV[2], ARGV[3]
sweep()
settle(id)
local b = redis.call('HMGET', BOTTLE, 'state', 'author', 'holder', 'person')
local state, author, holder = b[1], b[2], b[3]
if not state or state == 'd' then return {'none'} end
if author == caller then
  if holder and state ~= 'p' then return {'ok', holder} end
  return {'conflict'}
end
if holder == caller then
  if state == 'p' then to_sea(id, caller) end
  return {'ok', author}
end
if b[4] ~= person and redis.call('ZSCORE', SEEN, id) then return {'ok', author} end
return {'none'}
