-- Leave a stream without a leader, if 'worker|token' still leads it. KEYS: leader. ARGV: 'worker|token'.
local held = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|'
if held and string.sub(held, 1, #mine) == mine then return redis.call('DEL', KEYS[1]) end
return 0
