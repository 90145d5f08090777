-- Make the set of withheld people what one worker has folded, unless it has changed since that worker read it.
-- KEYS 1 the set. ARGV 1 the stamp read ('' = none), 2 the new one ('' = of nobody), 3 how many leave, those, then those
-- who come. Reply 1 when written.
local SET, read, stamp, leave = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
if (redis.call('HGET', SET, '') or '') ~= read then return 0 end
if stamp == '' then return redis.call('DEL', SET) end
for i = 4, #ARGV do
  if i < 4 + leave then redis.call('HDEL', SET, ARGV[i]) else redis.call('HSET', SET, ARGV[i], 1) end
end
redis.call('HSET', SET, '', stamp)
return 1
