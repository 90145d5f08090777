-- Write whole keys of a restore or a copy.
-- KEYS: any keys of one tag. ARGV for each key: type, expiry in ms since 1970 ('-1' = none), 'new' (replaces what stands)
-- or 'more' (adds to it), number of elements, elements: a hash as fields and values, a zset as scores and members.
local add = {hash = 'HSET', set = 'SADD', zset = 'ZADD', list = 'RPUSH'}
local at = 1
for _, key in ipairs(KEYS) do
  local kind, expiry, mode, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local first = at + 4
  at = first + count
  if mode == 'new' then
    redis.call('DEL', key)
  end
  if kind == 'string' then
    redis.call('SET', key, ARGV[first])
  elseif count > 0 then
    redis.call(add[kind], key, unpack(ARGV, first, at - 1))
  end
  if expiry ~= '-1' then
    redis.call('PEXPIREAT', key, expiry)
  end
end
return #KEYS
