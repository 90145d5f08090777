-- Trim a feed that has no checkpoints. KEYS: leader, feed, of one tag. ARGV: 'worker|token', oldest id that stays.
-- Returns how many entries went, or false when another leads.
local mine = ARGV[1] .. '|'
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #mine) ~= mine then return false end
return redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
